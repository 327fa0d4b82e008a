"""A template, and how its variables are filled in. Pure.

Texts have variables as `$name` or `${name}`, and `$$` for a dollar. `$input` is not given by name:
it is the text that the user pipes in or types.
"""

from __future__ import annotations

import difflib
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from l4cli.errors import UsageError

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Template:
    """What a template file says; None and empty for what it does not say.

    schema: as --schema takes it.
    tools: the Python file with the functions that the model may call.
    sampling: fields of SamplingParams.
    defaults: values of variables that are not given.
    """

    name: str
    prompt: str | None = None
    system: str | None = None
    model: str | None = None
    schema: str | None = None
    tools: Path | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> list[str]:
        """The names of its variables, in the order of the texts, without `input`."""
        names = [*variables_in(self.system or ""), *variables_in(self.prompt or "")]
        return [name for name in dict.fromkeys(names) if name != INPUT]

    @property
    def takes_input(self) -> bool:
        return INPUT in variables_in(self.prompt or "")

    def filled(self, given: Mapping[str, str], *, option: str = "-P ") -> FilledTemplate:
        """Fill in the variables. UsageError if one has no value, or if it has no such variable.

        option: what stands before NAME=VALUE where the user gives it.
        """
        names = self.variables
        for name in given:
            if name not in names:
                raise UsageError(f"template {self.name} has no variable {name}{_near(name, names)}")
        values = {**self.defaults, **given}
        if missing := [name for name in names if name not in values]:
            gives = " ".join(f"{option}{name}=VALUE" for name in missing)
            raise UsageError(
                f"template {self.name} needs a value for {' and '.join(missing)}: give {gives}"
            )
        return FilledTemplate(self, values)


@dataclass(frozen=True, slots=True)
class FilledTemplate:
    """A template and the values of its variables, all but `input`."""

    template: Template
    values: Mapping[str, str]

    @property
    def system(self) -> str | None:
        text = self.template.system
        return None if text is None else _filled(text, self.values)

    @property
    def asks_alone(self) -> bool:
        """Whether it asks something without a text of the user's."""
        return self.template.prompt is not None and not self.template.takes_input

    def question(self, piped: str, typed: str) -> str:
        """Return the question: the template's prompt and what the user piped in and typed.

        That is `$input`; a prompt without it stands between the two. UsageError if the template
        needs a text and there is none.
        """
        if self.template.prompt is None or not self.template.takes_input:
            prompt = _filled(self.template.prompt or "", self.values)
            return _joined(piped, prompt, typed)
        text = _joined(piped, typed)
        if not text.strip():
            raise UsageError(
                f"template {self.template.name} needs a text for $input: type it as the question, "
                "or pipe it in"
            )
        return _filled(self.template.prompt, {**self.values, INPUT: text})


def variables_in(text: str) -> list[str]:
    """Return the names of the variables in a text. ValueError for a `$` that begins none."""
    names = []
    for match in string.Template.pattern.finditer(text):
        if match["invalid"] is not None:
            after = text[match.start() : match.start() + 8].splitlines()[0]
            raise ValueError(f"the $ of {after!r} begins no variable: write $$ for a dollar")
        if name := match["named"] or match["braced"]:
            names.append(name)
    return names


def _filled(text: str, values: Mapping[str, str]) -> str:
    return string.Template(text).substitute(values)


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; it has {', '.join(names)}" if names else "; it has none"
