"""Text of files and pipes on its way into a message."""

from __future__ import annotations

from pathlib import Path

from l4cli.errors import InputError


def read_text(path: Path) -> str:
    """A file's text; InputError if it cannot be read, is binary, or is empty."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return decode(data, str(path))


def decode(data: bytes, name: str) -> str:
    """UTF-8 text without BOM and final newlines; InputError, with `name`, for anything else."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: byte {error.start + 1} is not UTF-8 text; convert it, or give a text file"
        ) from error
    if "\0" in text:
        raise InputError(f"{name}: a binary file (it holds NUL bytes); give a text file")
    text = text.rstrip("\r\n")
    if not text.strip():
        raise InputError(f"{name}: empty")
    return text
