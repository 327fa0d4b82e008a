"""Bytes on their way to text: one rule for every file and pipe that l4 reads as text.

Text is UTF-8, with or without a BOM, or UTF-16 or UTF-32 with one. Nothing is guessed: a wrong
guess would put characters before the model that nobody wrote.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from l4cli.errors import InputError

MAX_BYTES = 1 << 30  # of one file; ten million tokens of text are about 45 MB
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16, whose BOM it begins with
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


class BinaryFileError(InputError):
    """A file of a kind that l4 does not read as text."""


def read_text(path: Path) -> str:
    """A file's text as it stands; InputError if it cannot be read or is no text."""
    return decode(read_bytes(path), str(path))


def read_bytes(path: Path) -> bytes:
    """A file's whole content; InputError where it cannot be had, or changes meanwhile."""
    try:
        with path.expanduser().open("rb") as file:
            before = os.fstat(file.fileno())
            data = file.read(MAX_BYTES + 1)
            after = os.fstat(file.fileno())
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: {reason}") from None
    check_size(data, str(path))
    changed = (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns)
    if changed and stat.S_ISREG(before.st_mode):
        raise InputError(f"{path}: it changed while it was read; try again when it is finished")
    return data


def check_size(data: bytes, name: str) -> None:
    """InputError for what is longer than anything l4 reads into memory."""
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES >> 20} MiB; give it in parts")


def decode(data: bytes, name: str) -> str:
    """The text that `data` is, without its BOM; InputError, with `name`, if it is none."""
    bom, codec, encoding = next(
        (known for known in _BOMS if data.startswith(known[0])), (b"", "utf-8", "UTF-8")
    )
    if not bom and b"\0" in data:
        raise BinaryFileError(f"{name}: a binary file; give it as UTF-8 text")
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: not {encoding} at byte {error.start + 1}; convert it to UTF-8 first (iconv)"
        ) from None
    if "\0" in text:
        raise BinaryFileError(f"{name}: a binary file; give it as UTF-8 text")
    return text


def unix_lines(text: str) -> str:
    """The text with every line ended by "\\n" alone."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def printable(text: str) -> str:
    """One line that does nothing to a terminal: no control characters, single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
