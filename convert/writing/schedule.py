"""Decides the jobs of a conversion and their order: the order in which the source stores them.

The source is therefore read once from start to end, wherever its tensors go in the output and
however many outputs there are. For example, one pass over a fused expert tensor makes both the gate
and the up tensors, in every output's type.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from convert.checkpoint.checkpoint import Reader, StoredTensor
from convert.checkpoint.tensors import View
from convert.writing.output import Output
from convert.writing.tiles import Tile, cut


@dataclass(frozen=True)
class Job:
    """Rows of the source, and the tile made of them in every output that does not have it yet.

    outputs, tiles: of equal length; `tiles[i]` is to be written to `outputs[i]`.
    """

    outputs: tuple[Output, ...]
    tiles: tuple[Tile, ...]

    @property
    def n_bytes(self) -> int:
        return sum(tile.n_bytes for tile in self.tiles)


def jobs(outputs: Sequence[Output], tile_weights: int) -> list[Job]:
    """The jobs left to do for `outputs`, which share one source, in the order of the source.

    tile_weights: the most weights a tile may have.
    """
    found: list[Job] = []
    for tensors in zip(*(output.plan.tensors for output in outputs), strict=True):
        for tiles in zip(*(cut(tensor, tile_weights) for tensor in tensors), strict=True):
            pairs = zip(outputs, tiles, strict=True)
            lacking = [(output, tile) for output, tile in pairs if output.lacks(tile)]
            if lacking:
                found.append(Job(*map(tuple, zip(*lacking, strict=True))))
    return sorted(found, key=lambda job: _source_order(job.tiles[0]))


def prefetched(work: Sequence[Job], reader: Reader) -> Iterator[Job]:
    """Yield the jobs; ask the operating system to read the next transposed matrix ahead meanwhile.

    A transposed matrix is read in small pieces that lie one row apart. The system's own read-ahead
    does not recognise that pattern.
    """
    extents = [_transposed_extent(job.tiles[0]) for job in work]
    upcoming = deque(dict.fromkeys(extent for extent in extents if extent is not None))
    current = None
    for job, extent in zip(work, extents, strict=True):
        if extent is not None and extent != current:
            current = upcoming.popleft()
            reader.prefetch(*current)
            if upcoming:
                reader.prefetch(*upcoming[0])
        yield job


def _source_order(tile: Tile) -> tuple[str, int, int]:
    source = tile.source
    if not isinstance(source, View):
        return "", 0, 0
    start, _ = _extent(source)
    return str(source.stored.path), source.stored.offset + start, source.start + tile.first


def _extent(view: View) -> tuple[int, int]:
    """The byte range of a stored tensor that contains a view's matrix: first byte and length."""
    if not view.is_transposed:
        bytes_of = view.stored.bytes_of
        return bytes_of(view.start), bytes_of(view.n_rows * view.n_cols)
    item = view.stored.item_bytes
    # A transposed matrix shares its stored rows with others (up lies behind gate): take them whole.
    whole = view.n_cols * view.col_step
    return view.start // whole * whole * item, whole * item


def _transposed_extent(tile: Tile) -> tuple[StoredTensor, int, int] | None:
    view = tile.source
    if not isinstance(view, View) or not view.is_transposed:
        return None
    return (view.stored, *_extent(view))
