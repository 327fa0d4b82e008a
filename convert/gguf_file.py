"""A GGUF read back: its metadata, and where its tensors lie.

gguf's own reader knows fewer tensor types than llama.cpp (no Q2_0), and refuses the whole file.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.fields import ALIGNMENT, MAGIC, VERSION
from convert.qtypes import QTYPES

# GGUF's numbers of its metadata types: of fixed size, and the two that are not.
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

_NAMES = {qtype.id: qtype.name for qtype in QTYPES.values()}


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor as the file has it: `shape` in ne order, `offset` from the start of the file."""

    shape: tuple[int, ...]
    qtype: str
    offset: int

    @property
    def n_values(self) -> int:
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.n_values // self.shape[0] * QTYPES[self.qtype].row_bytes(self.shape[0])


@dataclass(frozen=True)
class GGUFFile:
    """What the header says; values are ints, floats, bools, strings, or lists of them."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read the header of `path`. Raises ConvertError unless every tensor lies within the file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            header = _Cursor(data).header()
            for name, tensor in header.tensors.items():
                if tensor.offset + tensor.n_bytes > len(data):
                    raise ValueError(f"ends within {name}")
            return header
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, struct.error) as error:
        raise ConvertError(f"{path}: not a whole GGUF file ({error})") from None


class _Cursor:
    """Takes one value after another; ValueError, KeyError or struct.error where there is none."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0

    def header(self) -> GGUFFile:
        if self._data[:4] != MAGIC:
            raise ValueError("no GGUF magic")
        version, n_tensors, n_fields = self._take("4xIQQ")
        if version not in (2, VERSION):
            raise ValueError(f"version {version}")
        fields = {self._string(): self._value(self._one("I")) for _ in range(n_fields)}
        infos = [self._info() for _ in range(n_tensors)]
        alignment = fields.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or alignment < 1:
            raise ValueError(f"alignment {alignment!r}")
        start = -(-self._at // alignment) * alignment
        tensors = {
            name: GGUFTensor(shape, qtype, start + offset) for name, shape, qtype, offset in infos
        }
        return GGUFFile(fields, tensors)

    def _info(self) -> tuple[str, tuple[int, ...], str, int]:
        name = self._string()
        shape = self._take(f"{self._one('I')}Q")
        type_id, offset = self._take("IQ")
        if type_id not in _NAMES or not shape or 0 in shape:
            raise ValueError(f"{name}: type {type_id}, shape {list(shape)}")
        return name, shape, _NAMES[type_id], offset

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._one(_CODES[kind])
        item, n = self._take("IQ")
        if item in (_STRING, _ARRAY):
            return [self._value(item) for _ in range(n)]
        return list(self._take(f"{n}{_CODES[item]}"))

    def _string(self) -> str:
        length = self._one("Q")
        raw = self._data[self._at : self._at + length]
        if len(raw) < length:
            raise ValueError("ends within a string")
        self._at += length
        return raw.decode("utf-8")

    def _one(self, code: str) -> Any:
        return self._take(code)[0]

    def _take(self, codes: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{codes}", self._data, self._at)
        self._at += struct.calcsize(f"<{codes}")
        return values
