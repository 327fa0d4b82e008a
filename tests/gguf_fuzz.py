"""Makes damaged GGUF headers: random bytes, changed counts and lengths, impossible values.

    for header in damaged(read_header(path), random.Random(0)):
        ...

Weights are not needed: `write_hollow` puts a hole of their size after the header. `edited` changes
metadata and keeps the header valid. `absurd` yields such changes for every number.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from convert.gguf.array import GGUFArray
from convert.gguf.fields import Field, TensorInfo, encode_header
from convert.gguf.file import read_gguf
from convert.gguf.qtypes import QTYPES

_NUMBERS = (
    0, 1, 2, 3, 7, 8, 9, 13, 31, 127, 255, 513, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 10**12, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip
_TYPES = {"u16": 2, "u32": 4, "i32": 5, "f32": 6, "bool": 7, "string": 8}
_BYTES = (b"\0", b"\xff", b"\x80", b"\x7f", b"\xc3", b"\x01", b"\x20")


def read_header(path: Path) -> bytes:
    """The bytes of a GGUF that precede its tensor data."""
    with path.open("rb") as file:
        return file.read(read_gguf(path).n_header)


def write_hollow(path: Path, header: bytes, n_data: int) -> Path:
    """Write a GGUF of `header`, padded, and `n_data` zero bytes, which take no disk."""
    padded = header.ljust(-(-len(header) // 32) * 32, b"\0")
    with path.open("wb") as file:
        file.write(padded)
        file.truncate(len(padded) + n_data)
    return path


def edited(path: Path, out: Path, **changes: Field | None) -> Path:
    """Write the GGUF `path` to `out` with changed metadata and zero weights.

    changes: new fields by key, with `__` for a dot; None removes the field.
    """
    model = read_gguf(path)
    fields: dict[str, Field] = {}
    for key, value in model.fields.items():
        kind = value.kind if isinstance(value, GGUFArray) else model.kinds[key]
        stored = list(value) if isinstance(value, GGUFArray) else value
        fields[key] = Field(stored, _TYPES[kind])
    for key, field in changes.items():
        key = key.replace("__", ".")
        if field is None:
            fields.pop(key, None)
        else:
            fields[key] = field
    start = min(tensor.offset for tensor in model.tensors.values())
    infos = [
        TensorInfo(name, tensor.shape, QTYPES[tensor.qtype].id, tensor.offset - start)
        for name, tensor in model.tensors.items()
    ]
    return write_hollow(out, encode_header(fields, infos), path.stat().st_size)


def absurd(path: Path) -> Iterator[dict[str, Field]]:
    """Yield changes for `edited`; each makes one number of the metadata small, large or odd."""
    model = read_gguf(path)
    for key, kind in model.kinds.items():
        odd: tuple[float | int, ...] = ()
        if kind == "u32":
            value = model.fields[key]
            odd = (0, 1, 2, 3, 5, value + 1, value // 2, 2 * value, 4096, 10**6, 2**31, 2**32 - 1)
        elif kind == "f32":
            odd = (0.0, -1.0, 1e-30, 1e30, math.inf, -math.inf, math.nan)
        for number in odd:
            if kind == "f32" or 0 <= number < 1 << 32:
                yield {key.replace(".", "__"): Field(number, _TYPES[kind])}


def damaged(header: bytes, draw: random.Random) -> Iterator[bytes]:
    """Yield headers with one to three damages each, endlessly."""
    kinds: tuple[Callable[[bytearray, random.Random], None], ...] = (
        _number_anywhere, _number_anywhere, _number_at_a_name, _number_at_a_name, _byte, _byte,
        _bit, _cut, _insertion, _deletion, _copy, _swap,
    )  # fmt: skip
    while True:
        changed = bytearray(header)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            draw.choice(kinds)(changed, draw)
        yield bytes(changed)


def _somewhere(data: bytearray, draw: random.Random) -> int:
    """A random position; half of the time it is near the start, with the counts and most keys."""
    n = max(1, len(data))
    return draw.randrange(n) if draw.random() < 0.5 else draw.randrange(min(n, 1500))


def _put_number(data: bytearray, at: int, draw: random.Random) -> None:
    number = draw.choice(_NUMBERS)
    if draw.random() < 0.2:
        number = max(0, len(data) + draw.randrange(-64, 64))
    code, most = draw.choice((("<Q", 2**64), ("<I", 2**32), ("<H", 2**16), ("<B", 2**8)))
    raw = struct.pack(code, number % most)
    data[at : at + len(raw)] = raw


def _number_anywhere(data: bytearray, draw: random.Random) -> None:
    _put_number(data, _somewhere(data, draw), draw)


def _number_at_a_name(data: bytearray, draw: random.Random) -> None:
    """Change a number just before or after a key or name: a length, type, count, value or shape."""
    words = (
        b"general.",
        b"tokenizer.",
        b"llama",
        b"blk.",
        b".weight",
        b"count",
        b"length",
        b"split",
    )
    at = data.find(draw.choice(words), _somewhere(data, draw))
    if at < 0:
        return
    if draw.random() < 0.4:
        _put_number(data, max(0, at - 8), draw)
        return
    end = at
    while end < len(data) and (chr(data[end]).isalnum() or data[end] in b"._"):
        end += 1
    _put_number(data, end + draw.choice((0, 4, 8, 12, 16, 20)), draw)


def _byte(data: bytearray, draw: random.Random) -> None:
    at = _somewhere(data, draw)
    data[at : at + 1] = draw.choice(_BYTES)


def _bit(data: bytearray, draw: random.Random) -> None:
    if data:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[_somewhere(data, draw) :]


def _insertion(data: bytearray, draw: random.Random) -> None:
    at = _somewhere(data, draw)
    data[at:at] = draw.randbytes(draw.randrange(1, 33))


def _deletion(data: bytearray, draw: random.Random) -> None:
    at = _somewhere(data, draw)
    del data[at : at + draw.randrange(1, 65)]


def _copy(data: bytearray, draw: random.Random) -> None:
    at, there, n = _somewhere(data, draw), _somewhere(data, draw), draw.randrange(1, 257)
    data[at : at + n] = data[there : there + n]


def _swap(data: bytearray, draw: random.Random) -> None:
    at, there = _somewhere(data, draw), _somewhere(data, draw)
    n = min(8, abs(at - there))
    data[at : at + n], data[there : there + n] = data[there : there + n], data[at : at + n]
