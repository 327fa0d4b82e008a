"""Imatrix files: GGUF files with two tensors for each tensor of the model.

NAME.in_sum2 are the sums of squares, NAME.counts the numbers of tokens, both float32. Metadata:
which texts were read, chunks and their length. The layout is llama-imatrix's, byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convert.gguf.fields import (
    ALIGNMENT,
    Field,
    TensorInfo,
    align,
    encode_header,
    string,
    strings,
    u32,
)
from convert.gguf.file import read_gguf
from convert.recipe.imatrix import read_imatrix
from l4cli.errors import InputError, OutputError
from l4cli.imatrix.sums import Entry, Floats, Sums

_F32 = 0  # GGUF's number of the type
SUMS, COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True, slots=True)
class Imatrix:
    """What an imatrix file holds.

    texts: the names of the texts that were read. n_ctx: tokens of a chunk.
    """

    sums: Sums
    texts: tuple[str, ...]
    n_ctx: int

    @property
    def num_chunks(self) -> int:
        """Chunks that were read, as llama-imatrix counts them: the most that a matrix has seen."""
        return self.sums.num_tokens // self.n_ctx


def read(path: Path) -> Imatrix:
    """Read a file. Raises ConvertError if it is no imatrix, InputError if numbers are impossible.

    Files in llama-imatrix's older format are refused: they do not tell the tokens of an expert.
    """
    found = read_imatrix(path)
    if found.is_legacy:
        raise InputError(
            f"{path}: it is in llama-imatrix's older format, which does not tell how many tokens "
            "each expert saw; make it again"
        )
    sums = Sums()
    for name, entry in found.entries.items():
        values = np.fromfile(path, "<f4", entry.n_values, offset=entry.offset)
        num = len(entry.counts)
        usable = len(values) == entry.n_values and np.isfinite(values).all() and values.min() >= 0
        if not usable or len(values) % num:
            raise InputError(f"{path}: the sums of {name} are impossible; make the imatrix again")
        counts = np.asarray(entry.counts, np.int64)
        sums.entries[name] = Entry(values.reshape(num, -1).astype(np.float32, copy=False), counts)
    n_ctx = read_gguf(path).fields["imatrix.chunk_size"]
    if type(n_ctx) is not int or n_ctx < 1:
        raise InputError(f"{path}: its imatrix.chunk_size is {n_ctx!r}; make the imatrix again")
    return Imatrix(sums, found.datasets, n_ctx)


def check_model(imatrix: Imatrix, path: Path, tensors: Mapping[str, Sequence[int]]) -> None:
    """Raise InputError unless all sums are of tensors that the model has.

    tensors: the shapes of the model's tensors, columns first.
    """
    for name, entry in imatrix.sums.entries.items():
        shape = tensors.get(name)
        if shape is None:
            raise InputError(
                f"{path}: it is of another model: the model at hand has no tensor {name}"
            )
        n_mats = int(np.prod(shape[2:]))
        if entry.sums.size != shape[0] * n_mats or len(entry.counts) not in (1, n_mats):
            raise InputError(
                f"{path}: it is of another model: {name} has {entry.sums.size:,} sums, the model "
                f"at hand {n_mats} x {shape[0]} columns"
            )


def merge(paths: Sequence[Path]) -> Imatrix:
    """Add up files of the same model. Raises InputError if one is of another model."""
    first = read(paths[0])
    texts = list(first.texts)
    for path in paths[1:]:
        other = read(path)
        where = f"{path}: it is of another model than {paths[0]}"
        own, new = first.sums.entries.keys(), other.sums.entries.keys()
        if own != new:
            only = min(own ^ new)
            has = "only one of them has"
            raise InputError(f"{where}: {has} sums of {only}")
        try:
            first.sums.add(other.sums)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        texts += other.texts
    return Imatrix(first.sums, tuple(texts), first.n_ctx)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Tensors in the order of the file, with the header that tells where they lie."""

    header: bytes
    arrays: list[Floats] = field(default_factory=list)


def write(path: Path, imatrix: Imatrix, more: Mapping[str, Field] | None = None) -> None:
    """Write a file in one step: under another name first, then renamed.

    more: further metadata. Raises OutputError if it cannot be written; what was there stays.
    """
    layout = _laid_out(imatrix, more or {})
    new = _new_of(path)
    try:
        with new.open("wb") as file:
            file.write(layout.header)
            for array in layout.arrays:
                _write_padded(file, array)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def discard(path: Path) -> None:
    """Remove a file, and what a kill left of writing it."""
    for each in (path, _new_of(path)):
        each.unlink(missing_ok=True)


def _new_of(path: Path) -> Path:
    """Return the name under which a file is written before it gets its own."""
    return path.with_name(f".{path.name}.l4-new")


def _laid_out(imatrix: Imatrix, more: Mapping[str, Field]) -> _Layout:
    fields = {
        "general.type": string("imatrix"),
        "imatrix.datasets": strings(imatrix.texts),
        "imatrix.chunk_count": u32(imatrix.num_chunks),
        "imatrix.chunk_size": u32(imatrix.n_ctx),
        **more,
    }
    infos: list[TensorInfo] = []
    arrays: list[Floats] = []
    offset = 0
    for name, entry in imatrix.sums.sorted():
        num, n_cols = entry.sums.shape
        counts = entry.counts.astype("<f4")
        # Like all of ggml, the file leaves out dimensions of 1 at the end.
        shapes = ((n_cols, num), (1, num)) if num > 1 else ((n_cols,), (1,))
        parts = ((SUMS, entry.sums), (COUNTS, counts))
        for (suffix, array), shape in zip(parts, shapes, strict=True):
            infos.append(TensorInfo(name + suffix, shape, _F32, offset))
            arrays.append(array)
            offset += align(array.nbytes)
    return _Layout(encode_header(fields, infos), arrays)


def _write_padded(file: BinaryIO, array: Floats) -> None:
    file.write(np.ascontiguousarray(array, "<f4").data)
    file.write(b"\0" * (-array.nbytes % ALIGNMENT))
