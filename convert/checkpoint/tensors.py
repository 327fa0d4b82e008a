"""Where the numbers of an output tensor lie in a checkpoint.

An output tensor is a stack of matrices, and each matrix is a strided view of one stored tensor.
That is all the transforming there is: a transposed, halved, fused expert tensor is E views with
other strides, so nothing larger than a tile is ever moved to rearrange it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from convert.checkpoint.checkpoint import StoredTensor


@dataclass(frozen=True)
class Scale:
    """What stored numbers are multiplied by: one for a block of [block_rows, block_cols] of them.

    `bits` of a number where several are packed into a word, else 0. Zero points lie as the scales
    do, and are subtracted first. `group_of_column` names each column's block where it is not in
    order.
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

    With `head_rows` the rows of every so many are shuffled: the first of its upper half, the first
    of its lower, the second of its upper ...
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
        """Every stored tensor it takes to read the matrix."""
        scale = self.scale
        beside = (scale.stored, scale.zero_point, scale.group_of_column) if scale else ()
        return (self.stored, *(stored for stored in beside if stored is not None))


@dataclass(frozen=True)
class Constant:
    """A row of numbers that is computed rather than stored."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the GGUF: `shape` in ne order, and its matrices (one if 1-D or 2-D)."""

    name: str
    shape: tuple[int, ...]
    matrices: tuple[View | Constant, ...]

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
    """A 3-D output tensor of matrices alike, one an expert."""
    return OutputTensor(name, (views[0].n_cols, views[0].n_rows, len(views)), tuple(views))


def transposed_expert(stored: StoredTensor, expert: int, first: int, n_rows: int) -> View:
    """Columns [first, first + n_rows) of one expert of a stored [E, n_cols, width], as rows."""
    _, n_cols, width = stored.shape
    return View(stored, n_rows, n_cols, expert * n_cols * width + first, 1, width)


def upright_expert(stored: StoredTensor, expert: int, first: int, n_rows: int) -> View:
    """Rows [first, first + n_rows) of one expert of a stored [E, height, n_cols]."""
    _, height, n_cols = stored.shape
    return View(stored, n_rows, n_cols, (expert * height + first) * n_cols, n_cols, 1)
