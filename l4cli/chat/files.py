"""Text of files and pipes on its way into a message."""

from __future__ import annotations

from pathlib import Path

from l4cli.documents import text
from l4cli.documents.formats import format_of
from l4cli.documents.ingest import document_of, read_document


def read_text(path: Path) -> str:
    """The text of a file of any format l4 reads; InputError if it cannot be read, or is empty."""
    return _trimmed(read_document(path).text)


def decode(data: bytes, name: str) -> str:
    """The text of what is piped in, without final newlines; InputError, with `name`, if none."""
    if format_of(data, name) == "text":  # a message: it stays as it was written
        return _trimmed(text.decode(data, name))
    return _trimmed(document_of(data, name).text)


def _trimmed(content: str) -> str:
    return content.rstrip("\r\n")
