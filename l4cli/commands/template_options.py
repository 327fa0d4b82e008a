"""--template, --var and --save-template of `l4 chat` and `l4 ask`.

What the command line says comes first, then the template, then variables of the environment and
config.toml: the template was named on the command line, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import completion
from l4cli.commands.group import Command
from l4cli.commands.options import read_text_option
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.templates.template import FilledTemplate

TEMPLATE_PANEL = "Templates"
_SAVED = ("system", "model", "schema", "tools")
Name = Annotated[
    str | None,
    typer.Option(
        "--template",
        "-t",
        metavar="NAME",
        autocompletion=completion.templates,
        help="Ask with the template NAME: its prompt, system message and options, where the "
        "command line gives none. `l4 templates` lists them.",
        rich_help_panel=TEMPLATE_PANEL,
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--var",
        "-P",
        metavar="NAME=VALUE",
        help="Value of a variable of the template, which has it as $NAME; may be repeated.",
        rich_help_panel=TEMPLATE_PANEL,
    ),
]
Save = Annotated[
    str | None,
    typer.Option(
        "--save-template",
        metavar="NAME",
        autocompletion=completion.templates,
        help="Save prompt, system message, model, schema, tools and sampling options of this "
        "command line as a template, and ask nothing. --yes changes one that exists.",
        rich_help_panel=TEMPLATE_PANEL,
    ),
]


class TemplatedCommand(Command):
    """A command with --template. `-t 8`, as llama.cpp has it, is still --threads 8."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        for at, word in enumerate(words[:end]):
            if word == "-t" and re.fullmatch("[0-9]+", "".join(words[at + 1 : at + 2])):
                words[at] = "--threads"
            elif attached := re.fullmatch("-t([0-9]+)", word):
                words[at] = f"--threads={attached[1]}"
        return super().parse_args(ctx, words)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The template of a command line with its variables filled in; an empty one without -t."""

    context: Any
    filled: FilledTemplate

    def over(self, option: str, value: Any) -> Any:
        """Return the template's value of an option, unless the command line gives `value`."""
        template = self.filled.template
        said = template.sampling.get(option) if option in _sampling() else getattr(template, option)
        return value if said is None or _is_typed(self.context, option) else said

    def sampling(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.over(name, value) for name, value in values.items()}

    def system(self, value: str | None) -> str | None:
        """Return the system message. `value` is the option's, which may be @FILE."""
        said = self.filled.system
        is_typed = said is None or _is_typed(self.context, "system")
        return read_text_option(value) if is_typed else said

    def questions(self, asked: Sequence[str]) -> list[str]:
        """Return each question within the template's prompt; without any, that prompt alone."""
        template = self.filled.template
        has_one = asked or template.prompt is not None
        return [self.filled.question("", text) for text in (asked or [""])] if has_one else []


def choose(context: Any, name: str | None, variables: Sequence[str] | None) -> Chosen:
    """Return what --template and --var mean. UsageError if a variable is missing or unknown."""
    from l4cli.templates.files import load_template
    from l4cli.templates.template import Template

    if name is None and variables:
        raise UsageError("-P gives a template's variables: name the template with -t")
    template = Template("") if name is None else load_template(name)
    return Chosen(context, template.filled(_values(variables)))


def save(
    context: Any,
    name: str,
    words: Mapping[str, str | None],
    variables: Sequence[str] | None,
    *,
    yes: bool,
) -> None:
    """Save what the command line gives as a template, and say where.

    words: what its words mean: values of `model` and `prompt`, or None.

    Raises UsageError if that is nothing, or if there is such a template and not `yes`.
    """
    from l4cli.templates.files import absolute_if_file, save_template, template_path

    if _is_typed(context, "template"):
        raise UsageError("-t and --save-template cannot be combined: give one")
    given = context.params
    values = {key: given[key] for key in (*_SAVED, *_sampling()) if _is_typed(context, key)}
    values |= {key: word for key, word in words.items() if word is not None}
    for key in {"model", "schema", "tools"} & values.keys():
        values[key] = absolute_if_file(str(values[key]))
    if "system" in values:
        values["system"] = read_text_option(values["system"])
    if not values:
        raise UsageError("nothing to save: give a prompt, --system, --temperature or the like")
    if defaults := _values(variables):
        values["defaults"] = defaults
    path = template_path(name)
    if path.exists() and not yes:
        raise UsageError(
            f"{path} exists: --yes sets {_list(values)} in it and keeps the rest, "
            f"`l4 templates edit {name}` opens it"
        )
    save_template(name, values)
    console.note(f"{path}: {_list(values)}; `l4 chat -t {name}` asks with it")
    kept = {*values, "words", "variable", "save_template", "yes"}
    left = [
        max(parameter.opts, key=len)
        for parameter in context.command.params
        if parameter.name not in kept and _is_typed(context, parameter.name)
    ]
    if left:
        console.warn(f"a template does not keep {', '.join(left)}")


def _values(variables: Sequence[str] | None) -> dict[str, str]:
    """The values by name. UsageError for what is not NAME=VALUE, and for a name given twice."""
    values: dict[str, str] = {}
    for text in variables or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise UsageError(f"-P wants NAME=VALUE, not {text!r}")
        if name == "input":
            raise UsageError("$input is the text that is piped in or typed, not a variable for -P")
        if values.get(name, value) != value:
            raise UsageError(f"-P gives {name} twice")
        values[name] = value
    return values


def _sampling() -> Sequence[str]:
    from l4cli.templates.files import SAMPLING

    return tuple(SAMPLING)


def _is_typed(context: Any, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names).replace("_", "-")
