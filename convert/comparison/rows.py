"""Reads rows of matrices from GGUF files, as float32. Of large models it reads a part."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint.dequantize import from_float16
from convert.errors import ConvertError
from convert.gguf.file import GGUFTensor
from convert.gguf.qtypes import QTYPES
from convert.kernels.quantize import dequantize_rows

_BLOCK_WEIGHTS = 1 << 18  # of a block that is computed at once; it stays in a core's cache
_LEAST_ROWS = 4  # of a matrix, however little may be read

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """A tensor as matrices: experts, or one."""

    n_cols: int
    n_rows: int
    n_matrices: int

    @classmethod
    def of(cls, tensor: GGUFTensor) -> Shape:
        shape = tensor.shape
        return cls(shape[0], prod(shape[1:2]), prod(shape[2:]))


class Source:
    """The open files of a model. Close it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._fds: dict[Path, int] = {}
        try:
            for path in paths:
                self._fds[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise ConvertError(f"{path}: {error.strerror}") from None

    def close(self) -> None:
        """Close the files; idempotent."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def rows(self, tensor: GGUFTensor, matrix: int, wanted: Sequence[int]) -> Floats:
        """Return these rows of a matrix [n, n_cols], in ascending order without gaps or with."""
        shape = Shape.of(tensor)
        row_bytes = QTYPES[tensor.qtype].row_bytes(shape.n_cols)
        start = tensor.offset + matrix * shape.n_rows * row_bytes
        raw = bytearray()
        for first, count in _runs(wanted):
            piece = os.pread(self._fds[tensor.path], count * row_bytes, start + first * row_bytes)
            raw += piece
        if len(raw) != len(wanted) * row_bytes:
            raise ConvertError(f"{tensor.path}: ends within its tensors; fetch it again")
        return _floats(tensor.qtype, np.frombuffer(raw, np.uint8).reshape(len(wanted), row_bytes))


def sampled(shape: Shape, share: float) -> list[int]:
    """Return the rows of each matrix to look at: all, or so large a share, evenly spaced."""
    count = max(_LEAST_ROWS, int(shape.n_rows * share))
    if count >= shape.n_rows:
        return list(range(shape.n_rows))
    found: list[int] = np.unique(np.linspace(0, shape.n_rows - 1, count).astype(int)).tolist()
    return found


def blocks(shape: Shape, rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the rows in blocks that a core's cache holds."""
    step = max(1, _BLOCK_WEIGHTS // shape.n_cols)
    for at in range(0, len(rows), step):
        yield rows[at : at + step]


def _runs(rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first row and the length of each run of consecutive rows."""
    start = at = 0
    while at < len(rows):
        at += 1
        if at == len(rows) or rows[at] != rows[at - 1] + 1:
            yield rows[start], at - start
            start = at


def _floats(qtype: str, raw: NDArray[np.uint8]) -> Floats:
    if qtype == "F32":
        return raw.view(np.float32)
    if qtype == "F16":
        return from_float16(raw.view("<f2"))
    if qtype == "BF16":  # the upper half of a float32
        wide = raw.view("<u2").astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return dequantize_rows(qtype, raw)
