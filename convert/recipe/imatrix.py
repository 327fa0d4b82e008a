"""Reads importance matrices: how much each column of a tensor matters, measured by llama-imatrix.

The importance of a column is the mean square of the activations that it was multiplied with. A
tensor has one row of importances per matrix (expert). Two formats are read: GGUF, which states how
many tokens every expert saw, and the older `.dat`, which does not. Sources: llama.cpp's
``common/imatrix-loader.cpp`` and ``load_imatrix`` in ``tools/quantize/quantize.cpp``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.errors import ConvertError
from convert.gguf.fields import Field, string, u32
from convert.gguf.file import GGUFTensor, read_gguf
from convert.importance import COLD_TOKENS, Importance
from convert.recipe.recipe import kind_of

_SUMS, _COUNTS = ".in_sum2", ".counts"
_GGUF_KEYS = ("imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size")


@dataclass(frozen=True)
class Imatrix:
    """An imatrix file.

    name: the path as the user gave it.
    entries: the importances by the tensors' GGUF names.
    """

    path: Path
    name: str
    entries: Mapping[str, Importance]
    datasets: tuple[str, ...]
    n_chunks: int
    is_legacy: bool

    def fields(self) -> dict[str, Field]:
        """The metadata that llama-quantize writes about an imatrix."""
        fields = {"quantize.imatrix.file": string(_utf8(self.name))}
        if self.datasets:
            fields["quantize.imatrix.dataset"] = string(self.datasets[0])
        fields["quantize.imatrix.entries_count"] = u32(len(self.entries))
        if self.n_chunks > 0:
            fields["quantize.imatrix.chunks_count"] = u32(self.n_chunks)
        return fields

    def find(self, name: str, shape: tuple[int, ...]) -> Importance | None:
        """The importance of a tensor of this shape (ne order); None if the file has none.

        Every number is checked. Raises ConvertError if one is impossible, or if the entry has
        another shape.
        """
        entry = self.entries.get(name)
        if entry is None:
            return None
        n_cols, n_matrices = shape[0], shape[2] if len(shape) > 2 else 1
        if entry.n_values != n_cols * n_matrices or len(entry.counts) not in (1, n_matrices):
            if kind_of(name) == "token_embd":  # llama-imatrix records something else by this name
                return None
            raise ConvertError(
                f"{self.path}: {name} has {entry.n_values} numbers and {len(entry.counts)} counts, "
                f"but the model's has {n_matrices} x {n_cols} columns; "
                "use the imatrix of this model"
            )
        for matrix in range(n_matrices):
            entry.row(matrix, n_cols)
        return entry


def _utf8(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_imatrix(name: str | Path) -> Imatrix:
    """Read the imatrix file `name`, in either format. Raises ConvertError."""
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
            file.seek(0)
            return _read_gguf(path, str(name)) if is_gguf else _read_legacy(path, str(name), file)
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}; name an imatrix file") from None


def cold_report(imatrix: Imatrix, tensors: Iterable[str], remedy: str | None) -> Iterator[str]:
    """Yield lines that name the cold experts of `tensors`; nothing if there are none.

    remedy: the type that the user chose for tensors with cold experts; None: none was chosen.
    """
    cold = {name: imatrix.entries[name].cold_experts() for name in tensors}
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, experts in cold.items():
        if experts:
            block, _, tensor = name.removesuffix(".weight").rpartition(".")
            groups.setdefault((block, experts), []).append(tensor)
    if not groups:
        return
    advice = (
        f"their tensors get {remedy} or better"
        if remedy
        else "calibrate on more text, or give their tensors a safer type with --cold-experts"
    )
    yield (
        f"{imatrix.path}: some experts saw fewer than {COLD_TOKENS} tokens, too few to tell which "
        f"columns matter; {advice}"
    )
    for (block, experts), names in groups.items():
        yield f"{block}: cold experts {_ranges(experts)} in {', '.join(names)}"


def _ranges(numbers: tuple[int, ...]) -> str:
    """Format ascending numbers as ranges: (1, 2, 3, 7) -> "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _read_gguf(path: Path, name: str) -> Imatrix:
    header = read_gguf(path)
    for key in _GGUF_KEYS:
        if key not in header.fields:
            raise ConvertError(
                f"{path}: has no {key}, so it is not an imatrix; name an imatrix file"
            )
    datasets, n_chunks, _ = (header.fields[key] for key in _GGUF_KEYS)
    stems = dict.fromkeys(stem for each in header.tensors for stem in _stem(each))
    entries = {stem: _gguf_entry(path, stem, header.tensors) for stem in stems}
    if not entries:
        raise ConvertError(f"{path}: holds no importance of any tensor; name an imatrix file")
    return Imatrix(path, name, entries, tuple(datasets), n_chunks, is_legacy=False)


def _stem(tensor: str) -> Iterator[str]:
    for suffix in (_SUMS, _COUNTS):
        if tensor.endswith(suffix):
            yield tensor.removesuffix(suffix)


def _gguf_entry(path: Path, stem: str, tensors: Mapping[str, GGUFTensor]) -> Importance:
    sums, counts = tensors.get(stem + _SUMS), tensors.get(stem + _COUNTS)
    if sums is None or counts is None:
        missing = _SUMS if sums is None else _COUNTS
        raise ConvertError(f"{path}: {stem} has no {missing[1:]}; make the imatrix again")
    if (sums.qtype, counts.qtype) != ("F32", "F32"):
        raise ConvertError(f"{path}: {stem} is not stored as F32; make the imatrix again")
    seen = np.fromfile(path, "<f4", counts.n_values, offset=counts.offset)
    if not (np.isfinite(seen).all() and (seen >= 0).all()):
        raise ConvertError(f"{path}: the counts of {stem} are invalid; make the imatrix again")
    tokens = tuple(int(count + 0.5) for count in seen.astype(float))
    return Importance(path, stem, sums.offset, sums.n_values, tokens, True)


def _read_legacy(path: Path, name: str, file: BinaryIO) -> Imatrix:
    size = os.fstat(file.fileno()).st_size
    try:
        (n_entries,) = _ints(file, 1)
        entries = dict(_legacy_entry(path, file, size) for _ in range(_within(n_entries, size)))
        n_chunks, datasets = _legacy_tail(file, size)
    except (struct.error, ValueError):
        raise ConvertError(f"{path}: is not an imatrix, or is truncated; copy it again") from None
    return Imatrix(path, name, entries, datasets, n_chunks, is_legacy=True)


def _legacy_entry(path: Path, file: BinaryIO, size: int) -> tuple[str, Importance]:
    """Read one entry: name, number of calls, and sums multiplied by that number.

    llama-imatrix has already written ones for experts that saw no token.
    """
    name = _text(file, size)
    n_calls, n_values = _ints(file, 2)
    offset = file.tell()
    if file.seek(4 * _within(n_values, size), os.SEEK_CUR) > size:
        raise ValueError(name)
    return name, Importance(path, name, offset, n_values, (max(n_calls, 1),), False)


def _legacy_tail(file: BinaryIO, size: int) -> tuple[int, tuple[str, ...]]:
    """Read the number of chunks and the dataset; the oldest files have neither."""
    if file.tell() == size:
        return 0, ()
    (n_chunks,) = _ints(file, 1)
    has_dataset = size - file.tell() > 4
    return n_chunks, (_text(file, size),) if has_dataset else ()


def _text(file: BinaryIO, size: int) -> str:
    (length,) = _ints(file, 1)
    raw = file.read(_within(length, size))
    if len(raw) < length:
        raise ValueError(length)
    return raw.decode()


def _ints(file: BinaryIO, n: int) -> tuple[int, ...]:
    return struct.unpack(f"<{n}i", file.read(4 * n))


def _within(n: int, size: int) -> int:
    if not 0 < n <= size:
        raise ValueError(n)
    return n
