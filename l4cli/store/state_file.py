"""One stored segment: the file that llama.cpp writes for a sequence, followed by l4's seal.

    magic, version, number of tokens, token ids, state      llama.cpp's llama_state_seq_save_file
    JSON: key, start                                         the context and position it is for
    xxh3-128 of everything before                            16 bytes
    length of the JSON                                       4 bytes
    "L4STATE1"                                               8 bytes

llama.cpp reads no further than the end of its state. It ends the process over a damaged file, so a
file is loaded only after its seal has been checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import BinaryIO

import xxhash

_MAGIC = b"L4STATE1"
_END = Struct(f"<16sI{len(_MAGIC)}s")
_HEADER = Struct("<4sII")
_SPAN = 4 << 20
_MOST_TOKENS = 1 << 14  # more than a segment has; limits the reading if the count is damaged
PARTIAL_SUFFIX = ".part"


class BadStateError(Exception):
    """A file must not be loaded; the message says why, without the file's name."""


def write(path: Path, key: str, start: int, save: Callable[[Path], object]) -> int:
    """Let `save` write a file, seal it and give it its name; return the number of bytes.

    Only the owner can read the file. Raises OSError and the errors of `save`; then no file is left.
    """
    partial = path.with_name(f"{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        save(partial)
        with partial.open("r+b") as file:
            label = json.dumps({"key": key, "start": start}).encode()
            digest = _digest(file, partial.stat().st_size)
            digest.update(label)
            file.seek(0, os.SEEK_END)
            file.write(label + _END.pack(digest.digest(), len(label), _MAGIC))
            n_bytes = file.tell()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        return n_bytes
    finally:
        partial.unlink(missing_ok=True)


def check(path: Path, key: str, start: int) -> None:
    """Read the whole file; BadStateError unless it is complete and for `key` and `start`."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < _END.size + _HEADER.size:
            raise BadStateError("its file is cut short")
        file.seek(size - _END.size)
        sealed, length, magic = _END.unpack(file.read(_END.size))
        if magic != _MAGIC or length > size - _END.size:
            raise BadStateError("its file is incomplete, or not written by l4")
        file.seek(0)
        digest = _digest(file, size - _END.size - length)
        label = file.read(length)
        digest.update(label)
        if digest.digest() != sealed:
            raise BadStateError("its file is damaged")
        if json.loads(label) != {"key": key, "start": start}:
            raise BadStateError("its file is for another model or position")


def tokens_of(path: Path, most: int = _MOST_TOKENS) -> tuple[list[int], int]:
    """The first `most` token ids of a file, and the number of tokens in its header; unchecked.

    OSError or BadStateError if the file has none.
    """
    ids = array("i")
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise BadStateError("its file is cut short")
        _, _, count = _HEADER.unpack(header)
        data = file.read(ids.itemsize * min(count, most))
    ids.frombytes(data[: len(data) // ids.itemsize * ids.itemsize])
    return ids.tolist(), count


def _digest(file: BinaryIO, length: int) -> xxhash.xxh3_128:
    """The digest of the first `length` bytes; the file is then positioned after them."""
    digest = xxhash.xxh3_128()
    for span in _spans(file, length):
        digest.update(span)
    return digest


def _spans(file: BinaryIO, length: int) -> Iterator[memoryview]:
    buffer = bytearray(_SPAN)
    view = memoryview(buffer)
    while length:
        n_bytes = file.readinto(view[: min(length, _SPAN)])  # type: ignore[attr-defined]
        if not n_bytes:
            raise BadStateError("its file is cut short")
        length -= n_bytes
        yield view[:n_bytes]


def touch(path: Path) -> None:
    """Mark a file as used now."""
    with contextlib.suppress(OSError):
        os.utime(path)
