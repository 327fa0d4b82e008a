"""The text file that a row's questions are about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    """The text of a UTF-8 file, without its BOM; InputError names the file and what is wrong."""
    try:
        data = path.expanduser().read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"document {path}: {reason}") from None
    if b"\0" in data:
        raise InputError(f"document {path}: a binary file; give it as UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"document {path}: not UTF-8 at byte {error.start + 1}") from None
    if not text.strip():
        raise InputError(f"document {path}: the file is empty")
    return text
