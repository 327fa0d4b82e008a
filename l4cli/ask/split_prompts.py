"""The prompts for documents that are read in parts: take notes, merge notes, answer from notes.

In each prompt the text comes first and the question last, so another question about the same part
reuses the text's KV cache.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_NOTHING = "NOTHING"
# The sentence that smaller models write instead. A longer sentence may contain a finding.
_SILENT = re.compile(
    r"(?:The|This) (?:\w+ ){1,5}(?:does not|doesn't|do not) (?:say|tell|mention|state|help|contain)"
    r"[^.,;:\n]{0,80}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Note:
    """A note on a question, and the place in the documents that it comes from."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"[{self.where}]\n{self.text}"


def note_prompt(text: str, question: str) -> str:
    """Return the prompt for the notes on one part."""
    return (
        f"{text}\n\n---\n"
        "The text above is one part of what there is to read. Write down, in a few notes, what in "
        "it helps to answer the question below: facts, names, numbers, the words that matter. Add "
        f"nothing that it does not say. If nothing in it helps, write only {_NOTHING}.\n\n"
        f"Question: {question}"
    )


def merge_prompt(notes: Sequence[Note], question: str) -> str:
    """Return the prompt that merges several notes into shorter ones."""
    return (
        f"{_joined(notes)}\n\n---\n"
        "The notes above were taken from parts of a longer text. Merge them into shorter ones. "
        "Keep whatever helps to answer the question below, and in square brackets where it stands."
        f"\n\nQuestion: {question}"
    )


def answer_prompt(notes: Sequence[Note], question: str) -> str:
    """Return the prompt for the answer."""
    return (
        f"{_joined(notes) or '(There are no notes: no part says anything on the question.)'}"
        "\n\n---\n"
        "The notes above were taken, part by part, from everything there was to read. Answer the "
        "question below from them alone, and say where it stands. If they do not hold the answer, "
        f"say so.\n\nQuestion: {question}"
    )


def says_nothing(note: str) -> bool:
    """Whether a note says that its part does not help: empty, NOTHING, or one such sentence."""
    bare = note.strip().strip(".!\"'*")
    return bare.upper() in ("", _NOTHING) or bool(_SILENT.fullmatch(bare))


def _joined(notes: Sequence[Note]) -> str:
    return "\n\n".join(map(str, notes))
