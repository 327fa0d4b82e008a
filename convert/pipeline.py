"""Carry out a plan: read, transform, quantize and write, all at once and within a memory budget.

Every worker takes a tile through all four steps by itself, so that while one waits for the disk
another computes. Tiles go in the order of the source, whatever their place in the output: a fused
expert tensor is read through once for its gate and its up half.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from convert.checkpoint import Reader, StoredTensor
from convert.errors import ConvertError
from convert.planning import plan_header
from convert.tensors import Constant, View
from convert.tiles import Tile, cut, make_tile
from convert.types import Plan, Progress, Report
from convert.writer import OutputFile

Result = TypeVar("Result")

_MAX_TILE_WEIGHTS = 1 << 23
_MIN_TILE_WEIGHTS = 1 << 16
# A weight of a tile in flight: as stored, as output, and its share of the block being quantized.
_BYTES_PER_WEIGHT = 4 + 4 + 1


def run(
    plan: Plan,
    out: Path,
    *,
    threads: int | None,
    ram: int,
    progress: Callable[[Progress], None] | None,
) -> Report:
    """Write the planned file; see `convert.convert`."""
    started = time.monotonic()
    _refuse_output(plan, out)
    threads = threads or n_cpus()
    header = plan_header(plan)
    with open_sources(plan) as reader, OutputFile(out, plan.n_bytes) as file:
        file.write_at(0, memoryview(header))
        tiles = _tiles(plan, ram // threads // _BYTES_PER_WEIGHT)

        def work(tile: Tile) -> Tile:
            data = make_tile(tile, reader)
            file.write_at(len(header) + tile.offset, data.data.cast("B"))
            return tile

        total = sum(tensor.n_bytes for tensor in plan.tensors)
        done = 0
        # Closed before the files are, whatever is raised: no worker outlives them.
        with closing(in_threads(work, _prefetched(tiles, reader), threads)) as finished:
            for tile in finished:
                done += tile.n_bytes
                if progress is not None:
                    progress(Progress(done, total, tile.tensor.name))
        file.commit()
    return Report(out, plan.n_bytes, time.monotonic() - started, _peak_rss())


def _refuse_output(plan: Plan, out: Path) -> None:
    """Raise ConvertError if `out` cannot be the output of this plan."""
    source, target = plan.source.resolve(), out.resolve()
    if target == source or source in target.parents:
        raise ConvertError(
            f"{out}: lies in the checkpoint's own directory; write elsewhere with -o"
        )
    if out.exists() and not out.is_file():
        raise ConvertError(f"{out}: is not a file; give the output another name with -o")
    if not out.parent.is_dir():
        raise ConvertError(f"{out.parent}: no such directory; make it, or write elsewhere with -o")


def _tiles(plan: Plan, max_weights: int) -> list[Tile]:
    """All tiles of the output in the order in which the source stores them."""
    max_weights = max(_MIN_TILE_WEIGHTS, min(_MAX_TILE_WEIGHTS, max_weights))
    tiles = [tile for tensor in plan.tensors for tile in cut(tensor, max_weights)]
    return sorted(tiles, key=_source_order)


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


def _prefetched(tiles: list[Tile], reader: Reader) -> Iterator[Tile]:
    """The tiles, with the kernel asked for the next transposed matrix while one is worked on.

    Those are read in small pieces a row apart, which no read-ahead would guess.
    """
    extents = [_transposed_extent(tile) for tile in tiles]
    upcoming = deque(dict.fromkeys(extent for extent in extents if extent is not None))
    current = None
    for tile, extent in zip(tiles, extents, strict=True):
        if extent is not None and extent != current:
            current = upcoming.popleft()
            reader.prefetch(*current)
            if upcoming:
                reader.prefetch(*upcoming[0])
        yield tile


def _transposed_extent(tile: Tile) -> tuple[StoredTensor, int, int] | None:
    view = tile.source
    if isinstance(view, Constant) or not view.is_transposed:
        return None
    return (view.stored, *_extent(view))


def in_threads(
    work: Callable[[Tile], Result], tiles: Iterable[Tile], threads: int
) -> Generator[Result, None, None]:
    """Results as they come, in any order; one tile waits in line, so that no worker does."""
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        running: set[Future[Result]] = set()
        try:
            for tile in tiles:
                running.add(pool.submit(work, tile))
                if len(running) > threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        finally:
            pool.shutdown(cancel_futures=True)


def open_sources(plan: Plan) -> Reader:
    views = [
        part for tensor in plan.tensors for part in tensor.output.parts if isinstance(part, View)
    ]
    return Reader(stored for view in views for stored in view.reads)


def n_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _peak_rss() -> int:
    """The highest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the process we were forked from, too
        match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(match[1]) * 1024 if match else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
