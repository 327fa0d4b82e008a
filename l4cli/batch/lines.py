"""How large a line and a row may be, and the lines of an input within that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from l4cli.batch.encoding import is_utf16_le
from l4cli.errors import InputError

MAX_ROW = 64 << 20  # bytes; ten million tokens of text are about 45 MB
MAX_LINE = 1 << 30  # bytes; more is read neither as a row nor as a whole array of rows


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of an input. InputError at a line that is larger than MAX_LINE.

    A line ends after a byte 0x0A; in UTF-16-LE after the byte that follows it, if both are one
    character. With that byte left for the next line, a row of a pipe would wait for the next row.
    """
    number = num_bytes = 0
    is_little_endian = False
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(
                f"line {number} is larger than {MAX_LINE >> 30} GiB: not a file of rows"
            )
        if number == 1:
            is_little_endian = is_utf16_le(line)
        if is_little_endian and line.endswith(b"\n") and (num_bytes + len(line)) % 2:
            line += file.read(1)
        num_bytes += len(line)
        yield line


def check_row(content: bytes) -> None:
    """Raise InputError if a row is larger than MAX_ROW: parsed, it could take gigabytes."""
    if len(content) > MAX_ROW:
        raise InputError(
            f"the row has {len(content):,} bytes, more than the {MAX_ROW >> 20} MiB that a row may "
            "have: put its text into a file and name that in `document`"
        )
