"""What is counted, as token ids: a text, a prompt or the rows of a file, in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.engine.llamacpp import LlamaModel
from l4cli.errors import InputError, L4Error
from l4cli.prompt import PromptEncoder

Row = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Section:
    """Tokens that stand in one context. `name` is for messages and results: "row 3"."""

    name: str
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive tokens of a section that are computed in a context of their own.

    section: the number of the section.
    """

    section: int
    tokens: list[int]


def of_text(model: LlamaModel, content: str, name: str) -> list[Section]:
    """Return a text as one section."""
    bos = [] if model.added_bos is None else [model.added_bos]
    return [Section(name, [*bos, *model.tokenize(content)])]


def of_prompt(model: LlamaModel, prompt: str) -> list[Section]:
    """Return a question as the model gets it: by its chat template, if it has one."""
    encoder = PromptEncoder(model)
    if encoder.template is None:
        return [Section("the prompt", encoder.text(prompt))]
    return [Section("the prompt", encoder.chat([{"role": "user", "content": prompt}]))]


def of_rows(model: LlamaModel, rows: Sequence[Row], name: str) -> list[Section]:
    """Return texts and conversations, a section each. InputError names the row that is wrong."""
    encoder, found = PromptEncoder(model), []
    for number, row in enumerate(rows, 1):
        try:
            ids = encoder.text(row) if isinstance(row, str) else encoder.chat(row)
        except L4Error as error:
            raise InputError(f"{name}: row {number}: {error}") from None
        found.append(Section(f"row {number}", ids))
    if not any(section.tokens for section in found):
        raise InputError(f"{name}: it has no text, so there is nothing to count")
    return found


def windows(sections: Sequence[Section], n_ctx: int, bos: int | None) -> Iterator[Window]:
    """Yield the windows of all sections, in order.

    n_ctx: most tokens of a window.
    bos: begins each window but a section's first one; None if the vocabulary adds none.
    """
    for number, section in enumerate(sections):
        at = 0
        while at < len(section.tokens):
            begin = [bos] if at and bos is not None else []
            take = section.tokens[at : at + n_ctx - len(begin)]
            yield Window(number, [*begin, *take])
            at += len(take)
