"""Reads the small files of a checkpoint within bounds of time and memory.

A checkpoint comes from outside. A file in it may be a link to a device that never ends, a pipe that
nobody writes to, or JSON that is nested deeper than Python's stack.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.foreign import N_START, in_place_of_a_file, recognize

MOST_BYTES = 16 << 20
MOST_INDEX_BYTES = 64 << 20
MOST_TOKENIZER_BYTES = 128 << 20  # those with 260,000 tokens take 30 MiB


def is_there(path: Path) -> bool:
    """Whether the directory has an entry of this name, even one that cannot be read."""
    return os.path.lexists(path)


def check_file(path: Path, most: int = MOST_BYTES) -> None:
    """Raise ConvertError unless `path` is a regular file of at most `most` bytes."""
    try:
        found = path.stat()
    except FileNotFoundError:
        what = "is a link to a file that does not exist" if path.is_symlink() else "missing"
        raise ConvertError(f"{path}: {what}; fetch it from the checkpoint's source") from None
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(found.st_mode):
        raise ConvertError(f"{path}: is a directory; fetch the file of this name")
    if not stat.S_ISREG(found.st_mode):
        raise ConvertError(f"{path}: is a pipe or a device; put a file there")
    if found.st_size > most:
        raise ConvertError(
            f"{path}: has {found.st_size >> 20:,} MiB, but a file of this name has at most "
            f"{most >> 20}; fetch it again"
        )


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises ConvertError."""
    check_file(path, most)
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from None


def read_start(path: Path) -> bytes:
    """The first bytes of a regular file, for `recognize`. Raises ConvertError."""
    check_file(path, most=1 << 62)
    try:
        with path.open("rb") as file:
            return file.read(N_START)
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from None


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The content of a UTF-8 file of at most `most` bytes. Raises ConvertError."""
    raw = read_bytes(path, most)
    refuse_left_overs(path, raw)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConvertError(f"{path}: not UTF-8 at byte {error.start + 1}; fetch it again") from None


def refuse_left_overs(path: Path, raw: bytes) -> None:
    """Raise ConvertError if the content `raw` is what a download left in place of the file."""
    if (found := in_place_of_a_file(raw[:N_START])) is not None:
        raise ConvertError(f"{path}: is {found.what}; {found.way_out}")


def read_json(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file of at most `most` bytes. Raises ConvertError."""
    raw = read_bytes(path, most)
    try:
        return parse_object(raw)
    except ValueError as error:
        found = recognize(raw[:N_START])
        if found is not None and not raw.lstrip().startswith(b"{"):
            raise ConvertError(f"{path}: is {found.what}; {found.way_out}") from None
        raise ConvertError(f"{path}: is {error}; fetch it again") from None


def read_json_list(path: Path, most: int = MOST_BYTES) -> list[Any]:
    """Read a JSON list from a file of at most `most` bytes. Raises ConvertError."""
    try:
        value = _parse(read_bytes(path, most))
    except ValueError as error:
        raise ConvertError(f"{path}: is {error}; fetch it again") from None
    if not isinstance(value, list):
        raise ConvertError(f"{path}: is not a JSON list; fetch it again")
    return value


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises ValueError, with a message that follows "is"."""
    value = _parse(raw)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("JSON that is nested too deep to read") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
