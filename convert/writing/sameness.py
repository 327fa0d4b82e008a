"""Whether a file that lies under an output's name holds what a plan would write there.

Two models of one architecture have the same size and header, whatever their weights are. So some
rows of every tensor are made anew and compared with the file before anything is written. A whole
comparison would cost as much as the conversion: `has_bytes_of` does it once the output is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from convert.checkpoint.checkpoint import Reader
from convert.kernels.quantize import quantizer
from convert.types import Plan, PlannedTensor
from convert.writing.journal import stored_tensors
from convert.writing.layout import FileLayout
from convert.writing.tiles import Tile, make_tiles

_CHUNK = 1 << 22  # bytes compared at a time


def has_weights_of(plan: Plan, files: Sequence[FileLayout]) -> bool:
    """Whether sampled rows of every tensor in `files` have the bytes that `plan` gives them.

    files: files of the plan's layout that exist with the planned size and header.

    The plan's source must be on disk. Raises ConvertError if it cannot be read, and OSError if
    `files` cannot.
    """
    quantize = quantizer([plan])
    with Reader(stored_tensors(plan)) as reader:
        for file in files:
            with file.path.open("rb") as written:
                for tile in _samples(plan.tensors, file):
                    position = len(file.header) + tile.offset - file.first
                    held = os.pread(written.fileno(), tile.n_bytes, position)
                    (made,) = make_tiles([tile], reader, quantize)
                    if made.tobytes() != held:
                        return False
    return True


def has_bytes_of(path: Path, other: Path, *, start: int = 0) -> bool:
    """Whether two files hold the same bytes from byte `start` on. Raises OSError."""
    with path.open("rb", buffering=0) as a, other.open("rb", buffering=0) as b:
        if os.fstat(a.fileno()).st_size != os.fstat(b.fileno()).st_size:
            return False
        position = start
        while held := os.pread(a.fileno(), _CHUNK, position):
            if held != os.pread(b.fileno(), len(held), position):
                return False
            position += len(held)
    return True


def _samples(tensors: Sequence[PlannedTensor], file: FileLayout) -> Iterator[Tile]:
    """The first, a middle and the last row of each tensor that lies in `file`."""
    for tensor in tensors:
        if file.first <= tensor.offset < file.first + file.n_data:
            n_matrices = len(tensor.output.matrices)
            n_rows = tensor.output.n_params // tensor.shape[0] // n_matrices
            last = (n_matrices - 1, n_rows - 1)
            for matrix, row in {(0, 0), (n_matrices // 2, n_rows // 2), last}:
                yield Tile(tensor, matrix, row, 1)
