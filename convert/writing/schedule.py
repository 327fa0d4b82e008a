"""In which order an output's tiles are made: that in which the source stores them.

So a source is read through once, whatever the place of a tensor in the output and however many
outputs there are: a fused expert tensor gives its gate, its up half, and all of their types.
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
    """Rows of the source, and a tile of them for every output that lacks it."""

    outputs: tuple[Output, ...]
    tiles: tuple[Tile, ...]

    @property
    def n_bytes(self) -> int:
        return sum(tile.n_bytes for tile in self.tiles)


def jobs(outputs: Sequence[Output], tile_weights: int) -> list[Job]:
    """What is to be done for `outputs`, all of one source, in tiles of so many weights at most."""
    found: list[Job] = []
    for tensors in zip(*(output.plan.tensors for output in outputs), strict=True):
        for tiles in zip(*(cut(tensor, tile_weights) for tensor in tensors), strict=True):
            pairs = zip(outputs, tiles, strict=True)
            lacking = [(output, tile) for output, tile in pairs if output.lacks(tile)]
            if lacking:
                found.append(Job(*map(tuple, zip(*lacking, strict=True))))
    return sorted(found, key=lambda job: _source_order(job.tiles[0]))


def prefetched(work: Sequence[Job], reader: Reader) -> Iterator[Job]:
    """The jobs, with the kernel asked for the next transposed matrix while one is worked on.

    Those are read in small pieces a row apart, which no read-ahead would guess.
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
    """The stretch of a stored tensor that a view's matrix lies in: first byte and length."""
    item = view.stored.item_bytes
    if not view.is_transposed:
        return view.start * item, view.n_rows * view.n_cols * item
    whole = view.n_cols * view.col_step  # the transposed matrix and what shares its rows
    return view.start // whole * whole * item, whole * item


def _transposed_extent(tile: Tile) -> tuple[StoredTensor, int, int] | None:
    view = tile.source
    if not isinstance(view, View) or not view.is_transposed:
        return None
    return (view.stored, *_extent(view))
