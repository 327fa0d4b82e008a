"""Makes tiles: a tile is the rows of a tensor that are read, transformed and quantized together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint.checkpoint import Reader
from convert.checkpoint.dequantize import e4m3_values, from_float16, scale_rows, unpack
from convert.checkpoint.tensors import Constant, View
from convert.errors import ConvertError
from convert.gguf.qtypes import QTYPES
from convert.kernels.quantize import dequantize_rows
from convert.types import PlannedTensor

if TYPE_CHECKING:
    from convert.kernels.quantize import Quantize

_NUMPY_DTYPES = {
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "I8": "i1",
    "I32": "<i4",
}

# Weights converted to float32 at a time: their 1 MiB stays in a core's cache until quantized.
_BLOCK_WEIGHTS = 1 << 18


@dataclass(frozen=True)
class Tile:
    """Rows [first, first + n_rows) of one matrix of a tensor."""

    tensor: PlannedTensor
    matrix: int
    first: int
    n_rows: int

    @property
    def source(self) -> View | Constant:
        return self.tensor.output.matrices[self.matrix]

    @property
    def row_bytes(self) -> int:
        return QTYPES[self.tensor.qtype].row_bytes(self.tensor.shape[0])

    @property
    def n_bytes(self) -> int:
        return self.n_rows * self.row_bytes

    @property
    def offset(self) -> int:
        """The tile's first byte, counted from the start of the plan's tensor data."""
        n_matrix_rows = self.tensor.n_bytes // len(self.tensor.output.matrices) // self.row_bytes
        return self.tensor.offset + (self.matrix * n_matrix_rows + self.first) * self.row_bytes


def cut(tensor: PlannedTensor, max_weights: int) -> Iterator[Tile]:
    """Yield the tiles of a tensor, each of at most `max_weights` weights but at least one row."""
    n_rows = tensor.output.n_params // tensor.shape[0] // len(tensor.output.matrices)
    step = max(1, max_weights // tensor.shape[0])
    for matrix in range(len(tensor.output.matrices)):
        for first in range(0, n_rows, step):
            yield Tile(tensor, matrix, first, min(step, n_rows - first))


def make_tiles(
    tiles: Sequence[Tile], reader: Reader, quantize: Quantize
) -> list[NDArray[np.uint8]]:
    """The quantized bytes of each tile, [n_rows, row_bytes].

    tiles: tiles of the same source rows in different outputs; the rows are read once for all.

    Raises ConvertError if the rows hold NaN or Inf, or overflow a tile's qtype.
    """
    loaded = _load(tiles[0], reader)
    outs = [
        loaded.view(np.uint8)
        if _is_copied(tile)
        else np.empty((tile.n_rows, tile.row_bytes), np.uint8)
        for tile in tiles
    ]
    importances = [_importance(tile) for tile in tiles]
    made = [each for each in zip(tiles, outs, importances, strict=True) if not _is_copied(each[0])]
    for first, block in _blocks(tiles[0], loaded, reader):
        if not _is_finite(block):
            raise ConvertError(f"{_place(tiles[0])}: holds NaN or Inf; fetch the file again")
        for tile, out, importance in made:
            rows = out[first : first + len(block)]
            try:
                quantize(tile.tensor.qtype, block, rows, importance)
            except OverflowError as error:
                raise ConvertError(f"{_place(tile)}: {error}; choose another type") from None
    return outs


def _is_copied(tile: Tile) -> bool:
    """Whether the tile's bytes are those of its source."""
    source = tile.source
    if not isinstance(source, View) or source.is_transposed or source.scale is not None:
        return False
    return source.stored.dtype == tile.tensor.qtype


def float32_blocks(tile: Tile, reader: Reader) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the tile's weights in blocks of rows that fit a core's cache.

    Each item is the index of the block's first row within the tile, and the block [rows, n_cols].
    """
    yield from _blocks(tile, _load(tile, reader), reader)


def _blocks(
    tile: Tile, rows: NDArray[np.generic], reader: Reader
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """See `float32_blocks`; `rows` are those of the tile as stored."""
    source = tile.source
    step = max(1, _BLOCK_WEIGHTS // tile.tensor.shape[0])
    for first in range(0, tile.n_rows, step):
        block = _to_float32(_gathered(rows[first : first + step]), source)
        if isinstance(source, View) and source.scale is not None:
            stored_rows = _stored_rows(source, tile.first + first, len(block))
            scale_rows(block, stored_rows, source.scale, reader)
        yield first, block


def _importance(tile: Tile) -> NDArray[np.float32] | None:
    """The importance of the tile's columns [n_cols] from the imatrix; None without one."""
    importance = tile.tensor.importance
    return None if importance is None else importance.row(tile.matrix, tile.tensor.shape[0])


def _load(tile: Tile, reader: Reader) -> NDArray[np.generic]:
    """The rows as stored, [n_rows, n_cols], in the source's own dtype and any memory order.

    Those of a qtype are bytes, [n_rows, bytes of a row].
    """
    source = tile.source
    if isinstance(source, Constant):
        return np.asarray([source.values], np.float32)
    dtype = np.dtype("u1" if source.stored.is_quantized else _NUMPY_DTYPES[source.stored.dtype])
    load = _load_transposed if source.is_transposed else _load_upright
    return load(source, tile, reader, dtype)


def _load_upright(
    view: View, tile: Tile, reader: Reader, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    wanted = _stored_rows(view, tile.first, tile.n_rows)
    first = int(wanted.min())
    row_items = view.stored.bytes_of(view.row_step) // dtype.itemsize
    rows = np.empty((int(wanted.max()) + 1 - first, row_items), dtype)
    start = view.stored.bytes_of(view.start + first * view.row_step)
    reader.read_into(view.stored, start, _bytes(rows))
    return rows[wanted - first] if view.head_rows else rows


def _stored_rows(view: View, first: int, n_rows: int) -> NDArray[np.intp]:
    """The stored rows that make up rows [first, first + n_rows) of a view, not a transposed one."""
    rows = np.arange(first, first + n_rows)
    if not view.head_rows:
        return rows
    head, row = np.divmod(rows, view.head_rows)
    pair, half = np.divmod(row, 2)
    stored: NDArray[np.intp] = head * view.head_rows + half * (view.head_rows // 2) + pair
    return stored


def _load_transposed(
    view: View, tile: Tile, reader: Reader, dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    # The tile's rows are columns of the stored matrix, so read the same piece of every stored row.
    columns = np.empty((view.n_cols, tile.n_rows), dtype)
    start = view.start + tile.first
    if tile.n_rows == view.col_step:
        reader.read_into(view.stored, start * dtype.itemsize, _bytes(columns))
    else:
        item = dtype.itemsize
        reader.read_pieces(
            view.stored, start * item, view.col_step * item, tile.n_rows * item, _bytes(columns)
        )
    transposed: NDArray[np.generic] = columns.T
    return transposed


def _gathered(rows: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same rows in compact memory. Without this, transposing a block would miss every cache."""
    return rows if rows.flags.c_contiguous else np.ascontiguousarray(rows.T).T


def _to_float32(rows: NDArray[np.generic], source: View | Constant) -> NDArray[np.float32]:
    """A float32 copy of `rows` in C order."""
    if isinstance(source, View) and source.scale and source.scale.bits:
        return unpack(rows, source.scale.bits, source.n_cols)
    if isinstance(source, View) and source.stored.is_quantized:
        return dequantize_rows(source.stored.dtype, rows.view(np.uint8))
    dtype = source.stored.dtype if isinstance(source, View) else "F32"
    if dtype == "F8_E4M3":
        return e4m3_values()[rows.view(np.uint8)]
    if dtype == "BF16":
        wide = rows.astype(np.uint32, order="C")
        wide <<= 16  # a bfloat16 is the upper half of a float32
        return wide.view(np.float32)
    if dtype == "F16":
        return from_float16(rows)
    return np.ascontiguousarray(rows, np.float32)


def _is_finite(block: NDArray[np.float32]) -> bool:
    # A finite sum proves that all its terms are finite. A sum can also overflow, so check again.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(block.sum())) or bool(np.isfinite(block).all())


def _bytes(array: NDArray[np.generic]) -> memoryview:
    return array.data.cast("B")


def _place(tile: Tile) -> str:
    source = tile.source
    return f"{source.stored.path}: {source.stored.name}" if isinstance(source, View) else ""
