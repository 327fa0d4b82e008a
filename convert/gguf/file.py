"""Reads a GGUF's header: its metadata, and where its tensors lie.

gguf's own reader does not know all of llama.cpp's tensor types (Q2_0 is missing), and rejects a
file that has such a tensor. This reader trusts nothing in the file: it checks counts and lengths
against the file's size before using them, and takes no more memory than the header has bytes.
"""

from __future__ import annotations

import os
import reprlib
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from convert.errors import ConvertError
from convert.foreign import N_START, recognize
from convert.gguf.array import CODES, KINDS, GGUFArray, decode_text
from convert.gguf.fields import ALIGNMENT, MAGIC, VERSION
from convert.gguf.qtypes import QTYPES

_NAMES = {qtype.id: qtype.name for qtype in QTYPES.values()}

# Limits far above every existing model, yet small enough to read in a second or two.
_MAX_HEADER = 64 << 20  # bytes; a vocabulary of 262k tokens takes 16M
_MAX_FIELDS = 1 << 16
_MAX_TENSORS = 1 << 17
_MAX_DIMS = 4
_MAX_NAME = 63  # bytes; ggml's limit for a tensor's name
_MAX_KEY = 65_535  # bytes, by the specification

_FIRST_READ = 1 << 20
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor of the file: `shape` in ne order, `offset` from the start of the file."""

    shape: tuple[int, ...]
    qtype: str
    offset: int
    path: Path = field(default=Path(), compare=False, repr=False)

    @property
    def n_values(self) -> int:
        return prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.n_values // self.shape[0] * QTYPES[self.qtype].row_bytes(self.shape[0])


@dataclass(frozen=True)
class GGUFFile:
    """The content of a header.

    fields: the metadata; values are ints, floats, bools, strings, or sequences of them.
    kinds: the type that each field is stored as: u32, string, array ...
    """

    fields: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]
    kinds: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    n_header: int = field(default=0, compare=False)  # bytes before the tensor data


def read_gguf(path: Path) -> GGUFFile:
    """Read the header of `path`.

    Raises ConvertError if it is malformed or a tensor lies outside the file.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISFIFO(mode):  # opening one would wait for a writer
            raise ConvertError(f"{path}: is a pipe, but a GGUF can only be read from a file")
        if stat.S_ISDIR(mode):
            raise ConvertError(
                f"{path}: is a directory; give a .gguf file, or make one with `l4 convert {path}`"
            )
        with path.open("rb") as file:
            cursor = _Cursor(path, file)
            return _checked(cursor, cursor.header())
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from None


def _checked(cursor: _Cursor, header: GGUFFile) -> GGUFFile:
    """Return `header`; raise ConvertError if tensors overlap or lie outside the file."""
    end = header.n_header
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset < end:
            raise cursor.error(f"{name} overlaps the data before it")
        end = tensor.offset + tensor.n_bytes
        if end > cursor.size:
            raise cursor.error(
                f"ends within {name}: its header needs {end:,} bytes, there are {cursor.size:,}"
            )
    return header


class _Cursor:
    """Reads one value after another from the start of a file.

    Every method raises ConvertError if the file ends too early or holds an impossible value.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._data = b""
        self._at = 0
        self.size = os.fstat(file.fileno()).st_size

    def error(self, what: str) -> ConvertError:
        return ConvertError(f"{self._path}: the file is damaged or not downloaded whole: {what}")

    def header(self) -> GGUFFile:
        self._check_version()
        n_tensors, n_fields = self._take("QQ", "its counts")
        # The fewest bytes of each. Field: a key and a value of one byte. Tensor: a name, one
        # dimension, a type, an offset.
        self._check_count("fields", n_fields, 13, _MAX_FIELDS)
        self._check_count("tensors", n_tensors, 32, _MAX_TENSORS)
        fields: dict[str, Any] = {}
        kinds: dict[str, str] = {}
        for index in range(n_fields):
            key = self._name(f"the name of field {index}", _MAX_KEY)
            if key in fields:
                raise self.error(f"field {key} appears twice")
            fields[key], kinds[key] = self._value(key)
        alignment = fields.get("general.alignment", ALIGNMENT)
        is_u32 = kinds.get("general.alignment", "u32") == "u32"
        if not is_u32 or alignment < 1 or alignment & (alignment - 1):
            shown = reprlib.repr(alignment)
            raise self.error(f"general.alignment is {shown}, not a power of two")
        infos = [self._info(index, alignment) for index in range(n_tensors)]
        start = -(-self._at // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, qtype, offset in infos:
            if name in tensors:
                raise self.error(f"tensor {name} appears twice")
            tensors[name] = GGUFTensor(shape, qtype, start + offset, self._path)
        return GGUFFile(fields, tensors, kinds, self._at)

    def _check_version(self) -> None:
        if not self.size:
            raise ConvertError(f"{self._path}: is empty; fetch it again")
        self._load(min(N_START, self.size), "its magic")
        if not self._data.startswith(MAGIC):
            raise self._foreign(self._data[:N_START])
        self._raw(len(MAGIC), "its magic")
        (version,) = self._take("I", "its version")
        if version in (VERSION << 24, 2 << 24):
            raise ConvertError(
                f"{self._path}: is a GGUF for big-endian machines; fetch the little-endian one"
            )
        if version not in (2, VERSION):
            way_out = "convert the model again" if version == 1 else "a newer l4 may read it"
            raise ConvertError(
                f"{self._path}: is GGUF of version {version}, not 2 or {VERSION}; {way_out}"
            )

    def _foreign(self, start: bytes) -> ConvertError:
        found = recognize(start)
        if found is not None:
            return ConvertError(
                f"{self._path}: is not a GGUF file but {found.what}; {found.way_out}"
            )
        return ConvertError(
            f"{self._path}: is not a GGUF file, nor another kind that l4 knows; give a .gguf file"
        )

    def _check_count(self, what: str, n: int, n_bytes: int, most: int) -> None:
        if n > most or n * n_bytes > self.size:
            raise self.error(f"its header announces {n:,} {what}, more than it can hold")

    def _info(self, index: int, alignment: int) -> tuple[str, tuple[int, ...], str, int]:
        name = self._name(f"the name of tensor {index}", _MAX_NAME)
        (n_dims,) = self._take("I", name)
        if not 1 <= n_dims <= _MAX_DIMS:
            raise self.error(f"{name} has {n_dims} dimensions, not 1 to {_MAX_DIMS}")
        shape = self._take(f"{n_dims}Q", name)
        type_id, offset = self._take("IQ", name)
        if type_id not in _NAMES:
            raise self.error(f"{name} is of the unknown type {type_id}")
        qtype = QTYPES[_NAMES[type_id]]
        if 0 in shape or prod(shape) >= 1 << 63:
            raise self.error(f"{name} has the shape {list(shape)}")
        if shape[0] % qtype.block:
            raise self.error(f"{name} has rows of {shape[0]}, not whole blocks of {qtype.name}")
        if offset % alignment:
            raise self.error(f"{name} lies at {offset}, not at a multiple of {alignment}")
        return name, shape, qtype.name, offset

    def _value(self, key: str) -> tuple[Any, str]:
        """A field's value, and the name of its type."""
        kind = self._kind(key)
        if kind == "array":
            return self._array(key), kind
        if kind == "string":
            return self._string(key), kind
        return self._take(CODES[kind], key)[0], kind

    def _kind(self, what: str) -> str:
        (number,) = self._take("I", what)
        if number not in KINDS:
            raise self.error(f"{what} is of the unknown type {number}")
        return KINDS[number]

    def _array(self, key: str) -> GGUFArray:
        kind = self._kind(key)
        (n,) = self._take("Q", key)
        where = f"{self._path}: {key}"
        if kind == "array":
            raise self.error(f"{key} is an array of arrays, which llama.cpp does not read")
        if kind == "string":
            start = self._at
            self._skip_strings(key, n)
            return GGUFArray(where, kind, n, self._data[start : self._at])
        return GGUFArray(where, kind, n, self._raw(n * struct.calcsize(CODES[kind]), key))

    def _skip_strings(self, key: str, n: int) -> None:
        """Skip `n` strings. For a large vocabulary, this loop takes most of the time."""
        if 8 * n > self.size - self._at:
            raise self.error(f"{key} announces {n:,} strings, more than the file can hold")
        at, length_at = self._at, _LENGTH.unpack_from
        while n:
            data = self._data
            # A string's length takes 8 bytes; if they are not in memory yet, load more.
            last = len(data) - 8
            while n and at <= last:
                at += 8 + length_at(data, at)[0]
                n -= 1
            if n:
                self._load(at + 8, key)
        self._load(at, key)
        self._at = at

    def _name(self, what: str, most: int) -> str:
        """A printable name of at most `most` bytes."""
        (length,) = self._take("Q", what)
        if not 1 <= length <= most:
            raise self.error(f"{what} is {length:,} bytes long, not 1 to {most:,}")
        name = decode_text(self._raw(length, what), f"{self._path}: {what}")
        if not name.isprintable():
            raise self.error(f"{what} is {reprlib.repr(name)}")
        return name

    def _string(self, what: str) -> str:
        (length,) = self._take("Q", what)
        return decode_text(self._raw(length, what), f"{self._path}: {what}")

    def _take(self, codes: str, what: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{codes}", self._raw(struct.calcsize(f"<{codes}"), what))

    def _raw(self, n_bytes: int, what: str) -> bytes:
        end = self._at + n_bytes
        if end > len(self._data):
            self._load(end, what)
        raw = self._data[self._at : end]
        self._at = end
        return raw

    def _load(self, end: int, what: str) -> None:
        """Load the file into memory up to byte `end` or further."""
        if end <= len(self._data):
            return
        if end > min(self.size, _MAX_HEADER):
            raise self.error(
                f"ends within {what}"
                if end > self.size
                else f"its header is longer than {_MAX_HEADER >> 20} MiB"
            )
        n_more = max(_FIRST_READ, len(self._data), end - len(self._data))
        self._data += self._file.read(n_more)
        if len(self._data) < end:  # the file was truncated meanwhile
            raise self.error(f"ends within {what}")
