"""Encodes GGUF's binary format: metadata fields, and the header with fields and tensor infos.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convert.gguf.array import CODES, KINDS, GGUFArray

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32  # bytes; GGUF's default, which a file does not have to state

_TYPES = {kind: number for number, kind in KINDS.items()}
_U16, _U32, _I32, _F32, _BOOL, _STRING, _ARRAY = (
    _TYPES[kind] for kind in ("u16", "u32", "i32", "f32", "bool", "string", "array")
)

Scalar = int | float | bool | str


@dataclass(frozen=True)
class Field:
    """A metadata value and its GGUF type; for a list it is the type of the items."""

    value: Scalar | Sequence[Scalar]
    type: int


def u16(value: int) -> Field:
    return Field(value, _U16)


def u32(value: int) -> Field:
    return Field(value, _U32)


def i32(value: int) -> Field:
    return Field(value, _I32)


def f32(value: float) -> Field:
    return Field(value, _F32)


def boolean(value: bool) -> Field:
    return Field(value, _BOOL)


def string(value: str) -> Field:
    return Field(value, _STRING)


def strings(values: Sequence[str]) -> Field:
    return Field(values, _STRING)


def f32s(values: Sequence[float]) -> Field:
    return Field(values, _F32)


def i32s(values: Sequence[int]) -> Field:
    return Field(values, _I32)


def stored(value: Any, kind: str) -> Field:
    """The field that a GGUF stores `value` as; `kind` is the name of its type."""
    return Field(value, _TYPES[value.kind if isinstance(value, GGUFArray) else kind])


def can_be_stored(field: Field) -> bool:
    """Whether the value has its field's type, and is in that type's range."""
    try:
        _encode_field(field)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, struct.error):
        return False
    return True


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's entry in the header: `offset` counts from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]  # ne order
    type_id: int
    offset: int


def align(n_bytes: int) -> int:
    """`n_bytes` rounded up to the alignment."""
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT


def encode_header(fields: Mapping[str, Field], tensors: Iterable[TensorInfo]) -> bytes:
    """Everything before the tensor data, padded to the alignment."""
    infos = [_encode_info(tensor) for tensor in tensors]
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(infos), len(fields))]
    for key, field in fields.items():
        parts += (_encode_string(key), _encode_field(field))
    header = b"".join(parts + infos)
    return header.ljust(align(len(header)), b"\0")


def _encode_info(tensor: TensorInfo) -> bytes:
    n_dims = len(tensor.shape)
    numbers = struct.pack(f"<I{n_dims}QIQ", n_dims, *tensor.shape, tensor.type_id, tensor.offset)
    return _encode_string(tensor.name) + numbers


def _encode_field(field: Field) -> bytes:
    value = field.value
    if isinstance(value, str) or not isinstance(value, Sequence):
        return struct.pack("<I", field.type) + _encode_values(field.type, [value])
    start = struct.pack("<IIQ", _ARRAY, field.type, len(value))
    if isinstance(value, GGUFArray):
        return start + value.raw
    return start + _encode_values(field.type, value)


def _encode_values(type_id: int, values: Sequence[Scalar]) -> bytes:
    if type_id == _STRING:
        return b"".join(_encode_string(str(value)) for value in values)
    return struct.pack(f"<{len(values)}{CODES[KINDS[type_id]]}", *values)


def _encode_string(text: str) -> bytes:
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw
