"""The document that a row's questions are about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l4cli import console, documents
from l4cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what is asked about it. `path` is as the row has it, `source` what it names."""

    path: str
    source: documents.Document
    questions: tuple[str, ...]


def read_document(path: Path) -> documents.Document:
    """A file of any format l4 reads; InputError names it and what is wrong.

    Pages without text are a line on stderr.
    """
    try:
        return documents.read_document(path, console.note)
    except InputError as error:
        raise InputError(f"document {error}") from None
