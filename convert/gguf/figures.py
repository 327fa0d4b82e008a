"""Figures of an evaluation in a GGUF's metadata, which are written after its tensors.

The header must not grow then, or all data would move. So room is reserved: numbers of a fixed size,
and texts that are filled up with blanks. Until figures are written, `l4.eval.tokens` is 0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convert.errors import ConvertError, DiskError
from convert.gguf.fields import Field, f32, string, u32
from convert.gguf.file import read_gguf

PREFIX = "l4.eval."
_TEXT_BYTES = 64
_FLOATS = ("ppl", "ppl_error", "base_ppl", "kld", "kld_error", "same_top")
_TEXTS = ("against", "text", "date")
_COUNTS = ("n_ctx", "tokens")  # the last one says that the others are there


def room() -> dict[str, Field]:
    """Return the fields that keep room for figures."""
    return {
        **{PREFIX + name: f32(0.0) for name in _FLOATS},
        **{PREFIX + name: string(" " * _TEXT_BYTES) for name in _TEXTS},
        **{PREFIX + name: u32(0) for name in _COUNTS},
    }


def figures_in(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the figures by their names without the prefix; None if there are none."""
    found = {name: fields.get(PREFIX + name) for name in (*_FLOATS, *_TEXTS, *_COUNTS)}
    kinds = {**dict.fromkeys(_FLOATS, float), **dict.fromkeys(_TEXTS, str)}
    is_whole = all(type(value) is kinds.get(name, int) for name, value in found.items())
    if not is_whole or not found["tokens"]:
        return None
    return {name: v.rstrip() if isinstance(v, str) else v for name, v in found.items()}


def write_figures(path: Path, figures: Mapping[str, Any]) -> None:
    """Write figures into the room that the GGUF `path` has for them.

    figures: by their names without the prefix. Texts that are too long are cut.

    Raises ConvertError if the file has no room for them, or cannot be written.
    """
    header = read_gguf(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with memoryview(os.pread(fd, header.n_header, 0)) as start:
                places = dict(_places(start.tobytes()))
            if missing := [name for name in figures if name not in places]:
                raise ConvertError(f"{path}: has no room for {PREFIX}{missing[0]}")
            for name in sorted(figures, key=lambda name: name == _COUNTS[-1]):
                first, stop = places[name]
                os.pwrite(fd, _encoded(name, figures[name], stop - first), first)
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise DiskError(f"{path}: {error.strerror}") from None


def masked(header: bytes) -> bytes:
    """Return a header with zeros where figures stand, to compare headers without them."""
    if PREFIX.encode() not in header:
        return header
    found = bytearray(header)
    for _, (first, stop) in _places(header):
        found[first:stop] = bytes(stop - first)
    return bytes(found)


def _places(header: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the name of each figure that has room, with the first byte of its value and its end."""
    for key, field in room().items():
        name = key.encode()
        start = struct.pack("<Q", len(name)) + name + struct.pack("<I", field.type)
        at = header.find(start)
        if at < 0:
            continue
        at += len(start)
        if isinstance(field.value, str):
            at += 8
            yield key.removeprefix(PREFIX), (at, at + _TEXT_BYTES)
        else:
            yield key.removeprefix(PREFIX), (at, at + 4)


def _encoded(name: str, value: Any, n_bytes: int) -> bytes:
    if name in _FLOATS:
        return struct.pack("<f", value or 0.0)
    if name in _COUNTS:
        return struct.pack("<I", value)
    cut = str(value).encode()[:n_bytes].decode(errors="ignore").encode()
    return cut.ljust(n_bytes)
