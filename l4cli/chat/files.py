"""Reads the text of files and of piped input for a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from l4cli import console
from l4cli.documents import text
from l4cli.documents.formats.recognize import is_plain
from l4cli.documents.ingest import document_of, read_document


def read_text(path: Path, on_note: Callable[[str], None] = console.note) -> str:
    """Return the text of a file in any format that l4 reads, without final line breaks.

    `on_note` is called with a line about pages without text. InputError if the file cannot be read
    or is empty.
    """
    return _trimmed(read_document(path, on_note).text)


def decode(data: bytes, name: str) -> str:
    """Return the text of piped input, without final line breaks.

    `name` stands for the input in messages. InputError if the input has no text.
    """
    if is_plain(data, name):  # plain text is the message itself: keep it as written
        return _trimmed(text.decode(data, name))
    return _trimmed(document_of(data, name, console.note).text)


def _trimmed(content: str) -> str:
    return content.rstrip("\r\n")
