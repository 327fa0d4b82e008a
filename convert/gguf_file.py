"""A GGUF read back: its metadata, and where its tensors lie.

gguf's own reader knows fewer tensor types than llama.cpp (no Q2_0), and refuses the whole file.
This one trusts nothing that the file says: counts and lengths are held against the file's own
length before anything is read by them, and a header takes no more memory than it has bytes.
"""

from __future__ import annotations

import os
import re
import reprlib
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, overload

from convert.errors import ConvertError
from convert.fields import ALIGNMENT, MAGIC, VERSION
from convert.qtypes import QTYPES

# GGUF's numbers of its metadata types: of fixed size, and the two that are not.
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_KINDS = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32", 7: "bool", 8: "string",
    9: "array", 10: "u64", 11: "i64", 12: "f64",
}  # fmt: skip

_NAMES = {qtype.id: qtype.name for qtype in QTYPES.values()}

# Far beyond every model there is, and little enough to be read through in a second or two.
_MAX_HEADER = 128 << 20  # bytes; a vocabulary of 262k tokens takes 16M
_MAX_FIELDS = 1 << 16
_MAX_TENSORS = 1 << 17
_MAX_DIMS = 4
_MAX_NAME = 63  # bytes of a tensor's name that ggml holds
_MAX_KEY = 65_535  # bytes, by the specification

_FIRST_READ = 1 << 20
_LENGTH = struct.Struct("<Q")
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


class GGUFArray(Sequence[Any]):
    """The items of an array field, decoded when they are asked for.

    ConvertError where a string is not UTF-8.
    """

    __slots__ = ("_items", "_n", "_raw", "_where", "kind")

    def __init__(self, where: str, kind: int, n: int, raw: bytes) -> None:
        self.kind = _KINDS[kind]
        self._where = where
        self._n = n
        self._raw = raw
        self._items: list[Any] | None = None

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._decoded()[index]

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Any]:
        return iter(self._decoded())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GGUFArray):
            return (self.kind, self._n, self._raw) == (other.kind, other._n, other._raw)
        return list(self) == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._n} x {self.kind}>"

    def byte_strings(self) -> list[bytes]:
        """The items of an array of strings, as they lie in the file."""
        raw, at, found = self._raw, 0, []
        length_at = _LENGTH.unpack_from
        for _ in range(self._n):
            end = at + 8 + length_at(raw, at)[0]
            found.append(raw[at + 8 : end])
            at = end
        return found

    def _decoded(self) -> list[Any]:
        if self._items is None:
            if self.kind == "string":
                self._items = [
                    _text(raw, f"{self._where}[{index}]")
                    for index, raw in enumerate(self.byte_strings())
                ]
            else:
                code = next(code for id_, code in _CODES.items() if _KINDS[id_] == self.kind)
                self._items = list(struct.unpack(f"<{self._n}{code}", self._raw))
        return self._items


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor as the file has it: `shape` in ne order, `offset` from the start of the file."""

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
    """What the header says; values are ints, floats, bools, strings, or sequences of them.

    `kinds` has the type that each field is stored as: u32, string, array ...
    """

    fields: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]
    kinds: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    n_header: int = field(default=0, compare=False)  # bytes before the tensor data


@dataclass(frozen=True)
class GGUFModel:
    """A GGUF with all the files it is split into: fields of the first, tensors of all."""

    files: tuple[Path, ...]
    fields: Mapping[str, Any]
    kinds: Mapping[str, str]
    tensors: Mapping[str, GGUFTensor]
    n_bytes: int  # of all the files


def read_gguf(path: Path) -> GGUFFile:
    """Read the header of `path`. Raises ConvertError unless every tensor lies within the file."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):  # opening one would wait for a writer
            raise ConvertError(f"{path}: is a pipe; a GGUF is read in no fixed order")
        with path.open("rb") as file:
            cursor = _Cursor(path, file)
            return _checked(cursor, cursor.header())
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}") from None


def read_model(path: Path) -> GGUFModel:
    """Read `path` and, if it is the first file of a split, the others beside it.

    Raises ConvertError unless all of them are there, whole, and parts of the same.
    """
    first = read_gguf(path)
    paths = _parts(path, first)
    tensors = dict(first.tensors)
    for index, part in enumerate(paths[1:], 1):
        other = read_gguf(part)
        _check_part(part, other, index, len(paths))
        for name, tensor in other.tensors.items():
            if name in tensors:
                raise ConvertError(
                    f"{part}: holds {name}, and so does {tensors[name].path.name}: "
                    "they are not parts of the same split; fetch them again"
                )
            tensors[name] = tensor
    stated = first.fields.get("split.tensors.count", len(tensors))
    if len(paths) > 1 and stated != len(tensors):
        raise ConvertError(
            f"{path}: says that its {len(paths)} files hold {stated} tensors, but they hold "
            f"{len(tensors)}: they are not parts of the same split; fetch them again"
        )
    n_bytes = sum(part.stat().st_size for part in paths)
    return GGUFModel(tuple(paths), first.fields, first.kinds, tensors, n_bytes)


def _parts(path: Path, first: GGUFFile) -> list[Path]:
    """The files of the split that `path` begins; `path` alone if it is whole."""
    count, index = first.fields.get("split.count", 1), first.fields.get("split.no", 0)
    for key in ("split.count", "split.no"):
        if first.kinds.get(key, "u16") != "u16":
            raise ConvertError(f"{path}: {key} is of type {first.kinds[key]}, not u16")
    match = _PART.fullmatch(path.name)
    named = (int(match[2]) - 1, int(match[3])) if match else (0, 1)
    if count <= 1 and named[1] <= 1:
        return [path]
    if index != 0 or named[0] > 0:
        stem = match[1] if match else path.stem
        raise ConvertError(
            f"{path}: is part {max(index, named[0]) + 1} of {max(count, named[1])} of a split "
            f"model: give {stem}-00001-of-{max(count, named[1]):05}.gguf"
        )
    if match is None or named[1] != count:
        raise ConvertError(
            f"{path}: is the first of {count} split files under another name: give its file "
            f"00001-of-{count:05}, called like the others"
        )
    paths = [path.with_name(f"{match[1]}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    for part in paths:
        if not part.exists():
            raise ConvertError(f"{part}: missing, one of {count} parts; fetch it")
    return paths


def _check_part(part: Path, other: GGUFFile, index: int, count: int) -> None:
    if other.kinds.get("split.no") != "u16":
        raise ConvertError(f"{part}: has no split.no: it is no part of a split; fetch it again")
    stated = (other.fields["split.no"], other.fields.get("split.count"))
    if stated != (index, count):
        raise ConvertError(
            f"{part}: its metadata say that it is part {stated[0] + 1} of {stated[1]}, its name "
            f"says {index + 1} of {count}; fetch it again"
        )


def _checked(cursor: _Cursor, header: GGUFFile) -> GGUFFile:
    """`header`, if its tensors lie within the file and apart from each other."""
    end = header.n_header
    for name, tensor in sorted(header.tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset < end:
            raise cursor.error(f"{name} overlaps what lies before it")
        end = tensor.offset + tensor.n_bytes
        if end > cursor.size:
            raise cursor.error(
                f"ends within {name}: {end:,} bytes are announced, there are {cursor.size:,}"
            )
    return header


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ConvertError(f"{what} is not UTF-8: the file is damaged") from None


class _Cursor:
    """Takes one value after another from the start of a file; ConvertError where there is none."""

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
        # What each takes at least: a key and a value of a byte; a name, one length, a type.
        self._check_count("fields", n_fields, 13, _MAX_FIELDS)
        self._check_count("tensors", n_tensors, 32, _MAX_TENSORS)
        fields: dict[str, Any] = {}
        kinds: dict[str, str] = {}
        for index in range(n_fields):
            key = self._name(f"the name of field {index}", _MAX_KEY)
            if key in fields:
                raise self.error(f"field {key} is there twice")
            fields[key], kinds[key] = self._value(key)
        alignment = fields.get("general.alignment", ALIGNMENT)
        is_u32 = kinds.get("general.alignment", "u32") == "u32"
        if not is_u32 or alignment < 1 or alignment & (alignment - 1):
            shown = reprlib.repr(alignment)
            raise self.error(f"general.alignment is {shown}, which is no power of two")
        infos = [self._info(index, alignment) for index in range(n_tensors)]
        start = -(-self._at // alignment) * alignment
        tensors: dict[str, GGUFTensor] = {}
        for name, shape, qtype, offset in infos:
            if name in tensors:
                raise self.error(f"tensor {name} is there twice")
            tensors[name] = GGUFTensor(shape, qtype, start + offset, self._path)
        return GGUFFile(fields, tensors, kinds, self._at)

    def _check_version(self) -> None:
        magic = self._raw(4, "its magic")
        if magic != MAGIC:
            raise self.error(f"it begins with {magic!r} instead of {MAGIC!r}")
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

    def _check_count(self, what: str, n: int, n_bytes: int, most: int) -> None:
        if n > most or n * n_bytes > self.size:
            raise self.error(f"{n:,} {what} are announced, more than it can hold")

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
            raise self.error(f"{name} has rows of {shape[0]}, which are not whole {qtype.name}")
        if offset % alignment:
            raise self.error(f"{name} lies at {offset}, which is no multiple of {alignment}")
        return name, shape, qtype.name, offset

    def _value(self, key: str) -> tuple[Any, str]:
        """A field's value, and what it is stored as."""
        (kind,) = self._take("I", key)
        if kind == _STRING:
            return self._string(key), _KINDS[kind]
        if kind in _CODES:
            return self._take(_CODES[kind], key)[0], _KINDS[kind]
        if kind != _ARRAY:
            raise self.error(f"{key} is of the unknown type {kind}")
        return self._array(key), _KINDS[kind]

    def _array(self, key: str) -> GGUFArray:
        kind, n = self._take("IQ", key)
        where = f"{self._path}: {key}"
        if kind == _STRING:
            start = self._at
            self._skip_strings(key, n)
            return GGUFArray(where, kind, n, self._data[start : self._at])
        if kind == _ARRAY:
            raise self.error(f"{key} is an array of arrays, which llama.cpp does not read")
        if kind not in _CODES:
            raise self.error(f"{key} is an array of the unknown type {kind}")
        return GGUFArray(where, kind, n, self._raw(n * struct.calcsize(_CODES[kind]), key))

    def _skip_strings(self, key: str, n: int) -> None:
        """Step over `n` strings; the loop that a large vocabulary's time goes into."""
        if 8 * n > self.size - self._at:
            raise self.error(f"{key} announces {n:,} strings, more than the file can hold")
        at, length_at = self._at, _LENGTH.unpack_from
        while n:
            data = self._data
            # A length needs 8 bytes; where the next one is not loaded yet, more is.
            last = len(data) - 8
            while n and at <= last:
                at += 8 + length_at(data, at)[0]
                n -= 1
            if n:
                self._load(at + 8, key)
        self._load(at, key)
        self._at = at

    def _name(self, what: str, most: int) -> str:
        """A name of at most so many bytes, fit to be shown."""
        (length,) = self._take("Q", what)
        if not 1 <= length <= most:
            raise self.error(f"{what} is {length:,} bytes long, not 1 to {most:,}")
        name = _text(self._raw(length, what), f"{self._path}: {what}")
        if not name.isprintable():
            raise self.error(f"{what} is {reprlib.repr(name)}")
        return name

    def _string(self, what: str) -> str:
        (length,) = self._take("Q", what)
        return _text(self._raw(length, what), f"{self._path}: {what}")

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
        """Have the file's first `end` bytes, or more, in memory."""
        if end <= len(self._data):
            return
        if end > min(self.size, _MAX_HEADER):
            raise self.error(f"ends within {what}" if end > self.size else "its header is endless")
        n_more = max(_FIRST_READ, len(self._data), end - len(self._data))
        self._data += self._file.read(n_more)
        if len(self._data) < end:  # it has been cut meanwhile
            raise self.error(f"ends within {what}")
