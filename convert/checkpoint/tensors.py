"""Describes where the weights of an output tensor lie in a checkpoint.

An output tensor is a stack of matrices, and each matrix is a strided view of one stored tensor.
Views express every transform. For example, the gate tensor is made of a fused, transposed expert
tensor by E views with other strides. So nothing larger than a tile is ever copied to rearrange it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from convert.checkpoint.checkpoint import StoredTensor


@dataclass(frozen=True)
class Scale:
    """The scales of a matrix: one for each block of [block_rows, block_cols] stored numbers.

    n_across: how many blocks lie side by side.
    bits: of a stored number if several are packed into a word, else 0.
    zero_point: subtracted before scaling; laid out like the scales.
    group_of_column: the block of each column; None: the blocks are in order.
    """

    stored: StoredTensor
    block_rows: int
    block_cols: int
    n_across: int
    bits: int = 0
    zero_point: StoredTensor | None = None
    group_of_column: StoredTensor | None = None


@dataclass(frozen=True)
class View:
    """A matrix inside a stored tensor: [r, c] is its element `start + r*row_step + c*col_step`.

    head_rows: the rows per attention head if they are reordered, else 0. The order within a head is
        first row of the first half, first row of the second half, second row of the first half ...
    """

    stored: StoredTensor
    n_rows: int
    n_cols: int
    start: int
    row_step: int
    col_step: int
    scale: Scale | None = None
    head_rows: int = 0

    @property
    def is_transposed(self) -> bool:
        return self.col_step != 1

    @property
    def reads(self) -> tuple[StoredTensor, ...]:
        """Every stored tensor that is needed to read the matrix."""
        scale = self.scale
        beside = (scale.stored, scale.zero_point, scale.group_of_column) if scale else ()
        return (self.stored, *(stored for stored in beside if stored is not None))


@dataclass(frozen=True)
class Constant:
    """A row of numbers that is computed, not stored."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF: `shape` in ne order, and its matrices (only one if 1-D or 2-D).

    kept_as: its qtype where it is not quantized: the one that a GGUF stores it in.
    """

    name: str
    shape: tuple[int, ...]
    matrices: tuple[View | Constant, ...]
    kept_as: str = "F32"

    @property
    def n_params(self) -> int:
        return prod(self.shape)


def vector(name: str, view: View) -> OutputTensor:
    """A 1-D output tensor."""
    return OutputTensor(name, (view.n_cols,), (view,))


def matrix(name: str, view: View) -> OutputTensor:
    """A 2-D output tensor."""
    return OutputTensor(name, (view.n_cols, view.n_rows), (view,))


def stack(name: str, views: Sequence[View]) -> OutputTensor:
    """A 3-D output tensor of matrices of equal shape, one for each expert."""
    return OutputTensor(name, (views[0].n_cols, views[0].n_rows, len(views)), tuple(views))


def transposed_expert(stored: StoredTensor, expert: int, first: int, n_rows: int) -> View:
    """Columns [first, first + n_rows) of one expert of a stored [E, n_cols, width], transposed."""
    _, n_cols, width = stored.shape
    return View(stored, n_rows, n_cols, expert * n_cols * width + first, 1, width)


def upright_expert(stored: StoredTensor, expert: int, first: int, n_rows: int) -> View:
    """Rows [first, first + n_rows) of one expert of a stored [E, height, n_cols]."""
    _, height, n_cols = stored.shape
    return View(stored, n_rows, n_cols, (expert * height + first) * n_cols, n_cols, 1)
