"""Reads which tensors a Hugging Face checkpoint holds, and their bytes when asked.

Opening a checkpoint reads only headers, and checks everything a header states against its file.
Data is read with `preadv` into the caller's buffers. Files are not mapped into memory, so memory
use does not grow with a shard's size, and a file truncated meanwhile is an error, not a SIGBUS.

Format: https://github.com/huggingface/safetensors (8 bytes header length, JSON header, data).
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from convert.checkpoint.foreign import without_safetensors
from convert.checkpoint.shards import ShardStore
from convert.errors import ConvertError, DiskError
from convert.foreign import recognize
from convert.gguf.qtypes import QTYPES
from convert.names import is_file_name, is_tensor_name
from convert.reading import MOST_INDEX_BYTES, is_there, parse_object, read_json, read_start

# Bytes per element of each dtype that a safetensors header may name.
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
_MOST_DIMENSIONS = 8
_MAX_HEADER_BYTES = 100 << 20  # the limit of the reference implementation


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: `n_bytes` bytes at `offset` hold `shape` in C order, little-endian.

    dtype: its name in safetensors; in a GGUF the qtype.
    is_absent: the file is not on disk, so only `name` and `path` are known.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    is_absent: bool = False

    @property
    def is_quantized(self) -> bool:
        """Whether it has a qtype whose numbers are only read in whole blocks."""
        return self.dtype not in DTYPE_BYTES

    @property
    def item_bytes(self) -> int:
        """Bytes of a number; it must not be quantized."""
        return DTYPE_BYTES[self.dtype]

    @property
    def n_bytes(self) -> int:
        return self.bytes_of(prod(self.shape))

    def bytes_of(self, n: int) -> int:
        """The bytes that `n` numbers take; they must be whole blocks."""
        return QTYPES[self.dtype].row_bytes(n) if self.is_quantized else n * self.item_bytes


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model directory by name, from headers alone.

    is_outline: there is an index, but none of the shards it names; all tensors are absent.
    """

    path: Path
    tensors: Mapping[str, StoredTensor] = field(repr=False)
    is_outline: bool = False


def open_checkpoint(src: Path, shards: ShardStore | None = None) -> Checkpoint:
    """Read the headers of every shard of `src`.

    shards: where the shards come from; None: from `src`.

    Raises ConvertError if there is no safetensors file, if some of the shards are missing or one is
    truncated, if the index and the shards disagree, or if a header states impossible shapes or
    offsets.
    """
    index = src / INDEX_NAME
    if is_there(index):
        weight_map = read_index(index)
        names = set(weight_map.values())
        if shards is None and not any((src / name).is_file() for name in names):
            absent = {
                name: StoredTensor(name, "BF16", (), src / shard, 0, is_absent=True)
                for name, shard in weight_map.items()
            }
            return Checkpoint(src, absent, is_outline=True)
        return Checkpoint(src, _read_shards(src, weight_map, shards))
    single = _find_header(src / SINGLE_NAME, shards)
    if single is not None:
        return Checkpoint(src, {tensor.name: tensor for tensor in single})
    if list(src.glob("*.safetensors")):
        raise ConvertError(
            f"{src}: shards without {INDEX_NAME}; fetch the index file of the checkpoint too"
        )
    if found := without_safetensors(src):
        raise ConvertError(f"{src}: {found}")
    raise ConvertError(f"{src}: no {SINGLE_NAME} and no {INDEX_NAME}; is this a checkpoint?")


def read_header(path: Path) -> list[StoredTensor]:
    """The tensors of one safetensors file, in the order of their data. Raises ConvertError."""
    start = read_start(path)
    found = None if start[8:9] == b"{" else recognize(start)
    if found is not None:
        raise ConvertError(f"{path}: is not a safetensors file but {found.what}; {found.way_out}")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = header_length(path, file.read(8), size)
            raw = file.read(length)
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}; fetch it again") from None
    return _parse_header(path, raw, size)


def header_length(path: Path, start: bytes, file_size: int) -> int:
    """The length of the JSON header, from `start`, the first 8 bytes of the file.

    Raises ConvertError if the file of `file_size` bytes cannot hold it.
    """
    length = int.from_bytes(start, "little")
    if file_size < 8 or length > min(file_size - 8, _MAX_HEADER_BYTES):
        raise ConvertError(f"{path}: truncated or not a safetensors file; fetch it again")
    return length


def _find_header(path: Path, shards: ShardStore | None) -> list[StoredTensor] | None:
    """The tensors of a shard; None if there is no such shard."""
    if shards is None:
        return read_header(path) if is_there(path) else None
    found = shards.header(path.name)
    return None if found is None else _parse_header(path, *found)


def _parse_header(path: Path, raw: bytes, file_size: int) -> list[StoredTensor]:
    try:
        header = parse_object(raw)
    except ValueError as error:
        raise ConvertError(f"{path}: its header is {error}; fetch it again") from None
    return _checked_entries(path, header, data_start=8 + len(raw), file_size=file_size)


def _checked_entries(
    path: Path, header: dict[str, Any], data_start: int, file_size: int
) -> list[StoredTensor]:
    entries = [
        _entry(path, name, info, data_start)
        for name, info in header.items()
        if name != "__metadata__"
    ]
    entries.sort(key=lambda tensor: (tensor.offset, tensor.n_bytes))
    end = data_start
    for tensor in entries:
        if tensor.offset < end:
            raise ConvertError(f"{path}: {tensor.name} overlaps its neighbour; fetch it again")
        end = tensor.offset + tensor.n_bytes
        if end > file_size:
            raise ConvertError(
                f"{path}: truncated: {tensor.name} ends at byte {end:,} of {file_size:,}; "
                "fetch it again"
            )
    return entries


def _entry(path: Path, name: str, info: Any, data_start: int) -> StoredTensor:
    if not is_tensor_name(name):
        raise ConvertError(
            f"{path}: its header has the name {reprlib.repr(name)}, which no tensor has; "
            "fetch it again"
        )
    try:
        dtype, shape = info["dtype"], tuple(info["shape"])
        begin, end = info["data_offsets"]
        is_sound = (
            len(shape) <= _MOST_DIMENSIONS
            and all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, begin, end))
            and begin <= end
        )
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise ConvertError(f"{path}: the header entry of {name} is malformed; fetch it again")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ConvertError(f"{path}: {name} has the unknown dtype {reprlib.repr(dtype)}")
    tensor = StoredTensor(name, dtype, shape, path, data_start + begin)
    if tensor.n_bytes != end - begin:
        raise ConvertError(
            f"{path}: the header gives {name} {end - begin:,} bytes, but {dtype} "
            f"{list(shape)} takes {tensor.n_bytes:,}; fetch it again"
        )
    return tensor


def read_index(index: Path) -> dict[str, str]:
    """The shard of each tensor, from the file `index`. Raises ConvertError."""
    weight_map = read_json(index, MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConvertError(f"{index}: has no weight_map; fetch it again")
    for name, shard in weight_map.items():
        if not is_tensor_name(name):
            raise ConvertError(
                f"{index}: has the name {reprlib.repr(name)}, which no tensor has; fetch it again"
            )
        if not is_file_name(shard):
            raise ConvertError(
                f"{index}: names a shard outside its directory: {reprlib.repr(shard)}"
            )
    return dict(weight_map)


def _read_shards(
    src: Path, weight_map: Mapping[str, str], shards: ShardStore | None
) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        found = _find_header(src / shard, shards)
        if found is None:
            raise ConvertError(f"{src / shard}: missing, but the index names it; fetch it")
        tensors.update((tensor.name, tensor) for tensor in found)
    for name, shard in weight_map.items():
        if name not in tensors or tensors[name].path.name != shard:
            raise ConvertError(f"{src / shard}: does not hold {name}, which the index places there")
    for name in tensors:
        if name not in weight_map:
            raise ConvertError(f"{tensors[name].path}: holds {name}, which the index does not name")
    return tensors


class Reader:
    """Open shards, which many threads may read at once. Close it, or use it in a `with`."""

    def __init__(self, tensors: Iterable[StoredTensor] = ()) -> None:
        self._files: dict[Path, int] = {}
        try:
            for path in dict.fromkeys(tensor.path for tensor in tensors):
                self.open_file(path, path)
        except ConvertError:
            self.close()
            raise

    def open_file(self, path: Path, file: Path) -> None:
        """Open `file`, which holds the bytes of the shard `path`. Raises ConvertError."""
        try:
            self._files[path] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ConvertError(f"{file}: missing; fetch it") from None
        except OSError as error:
            raise ConvertError(f"{file}: {error.strerror}") from None

    def close_file(self, path: Path) -> None:
        """Close the shard `path`. No thread may read it any more."""
        os.close(self._files.pop(path))

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[1])

    def read_into(self, tensor: StoredTensor, start: int, buffer: memoryview) -> None:
        """Fill `buffer` with the tensor's bytes from its byte `start` on. Raises ConvertError."""
        fd, position = self._files[tensor.path], tensor.offset + start
        while buffer:
            try:
                n_read = os.preadv(fd, [buffer], position)
            except OSError as error:
                raise DiskError(f"{tensor.path}: {tensor.name}: {error.strerror}") from None
            if not n_read:
                raise ConvertError(f"{tensor.path}: ended within {tensor.name}; fetch it again")
            buffer, position = buffer[n_read:], position + n_read

    def read_pieces(
        self, tensor: StoredTensor, start: int, step: int, n_bytes: int, buffer: memoryview
    ) -> None:
        """Fill `buffer` with pieces of `n_bytes` of the tensor, at bytes `start + i * step`."""
        fd, position = self._files[tensor.path], tensor.offset + start
        preadv = os.preadv
        for first in range(0, len(buffer), n_bytes):
            piece = buffer[first : first + n_bytes]
            try:
                is_whole = preadv(fd, (piece,), position) == n_bytes
            except OSError:
                is_whole = False
            if not is_whole:  # a short read, which is completed, or an error, which is raised
                self.read_into(tensor, position - tensor.offset, piece)
            position += step

    def prefetch(self, tensor: StoredTensor, start: int, n_bytes: int) -> None:
        """Ask the operating system to cache these bytes of the tensor, if its shard is open."""
        fd = self._files.get(tensor.path)
        if fd is not None and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, tensor.offset + start, n_bytes, os.POSIX_FADV_WILLNEED)
