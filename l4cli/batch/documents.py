"""The document that a row's questions are about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l4cli import documents
from l4cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what is asked about it. `path` is as the row has it."""

    path: str
    text: str
    questions: tuple[str, ...]

    def prompt(self, index: int) -> str:
        """The document, then the question: all before the question is computed once."""
        return f"{self.text}\n\n{self.questions[index]}"


def read_document(path: Path) -> str:
    """The text of a file of any format l4 reads; InputError names the file and what is wrong."""
    try:
        return documents.read_document(path).text
    except InputError as error:
        raise InputError(f"document {error}") from None
