"""Carries out plans: reads, transforms, quantizes and writes tiles, within a memory budget.

Every worker thread takes a tile through all four steps, so that one computes while another waits
for the disk. A further thread syncs and records the finished tiles every two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

from convert.checkpoint.checkpoint import Reader
from convert.kernels.quantize import quantizer
from convert.types import Plan, Progress, Report
from convert.writing.journal import stored_tensors
from convert.writing.layout import Layout
from convert.writing.output import Batch, Output
from convert.writing.refusals import is_whole, refuse_outputs
from convert.writing.resources import n_cpus, peak_rss, tile_weights
from convert.writing.schedule import Job, jobs, prefetched
from convert.writing.supply import Supply
from convert.writing.tiles import make_tiles

Item = TypeVar("Item")
Result = TypeVar("Result")

# A kill loses at most this much work, plus the tiles and the save that are under way.
SECONDS_BETWEEN_SAVES = 2.0


def run(
    planned: Sequence[tuple[Plan, Layout]],
    *,
    resume: bool,
    overwrite: bool,
    threads: int | None,
    ram: int | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[Report, ...]:
    """Write the planned outputs; see `convert.convert_all`, whose arguments these are."""
    started = time.monotonic()
    refuse_outputs(planned, resume=resume, overwrite=overwrite)
    whole = {layout.path for plan, layout in planned if resume and is_whole(plan, layout)}
    written: dict[Path, Report] = {}
    if unfinished := [(plan, layout) for plan, layout in planned if layout.path not in whole]:
        written = _write(unfinished, resume, overwrite, threads, ram, progress, started)
    return tuple(written.get(layout.path) or _untouched(plan, layout) for plan, layout in planned)


def _write(
    planned: Sequence[tuple[Plan, Layout]],
    resume: bool,
    overwrite: bool,
    threads: int | None,
    ram: int | None,
    progress: Callable[[Progress], None] | None,
    started: float,
) -> dict[Path, Report]:
    """Write the outputs, and return a report for each path."""
    threads = threads or n_cpus()
    plans = [plan for plan, _ in planned]
    with ExitStack() as stack:
        reader = stack.enter_context(open_sources(plans[0]))
        weights = tile_weights(plans, threads, ram)
        outputs = [
            stack.enter_context(Output(plan, layout, resume=resume, overwrite=overwrite))
            for plan, layout in planned
        ]
        todo = jobs(outputs, weights)
        supply = stack.enter_context(Supply(todo, reader, plans[0].shards))
        _make(outputs, todo, reader, supply, threads, progress)
        for output in outputs:
            output.seal()
        for output in outputs:
            output.publish()
    seconds = time.monotonic() - started
    return {output.layout.path: _report(output, todo, seconds) for output in outputs}


def _make(
    outputs: Sequence[Output],
    todo: Sequence[Job],
    reader: Reader,
    supply: Supply,
    threads: int,
    progress: Callable[[Progress], None] | None,
) -> None:
    """Do all the jobs in worker threads; record each in this thread when it is finished."""

    quantize = quantizer([output.plan for output in outputs])

    def work(job: Job) -> Job:
        supply.take(job)
        for output, tile, data in zip(
            job.outputs, job.tiles, make_tiles(job.tiles, reader, quantize), strict=True
        ):
            output.write(tile, data.data.cast("B"))
        return job

    total = sum(tensor.n_bytes for output in outputs for tensor in output.plan.tensors)
    done = total - sum(job.n_bytes for job in todo)
    # These close before the files do, whatever is raised, so no worker uses a closed file.
    with (
        closing(_Saver(outputs, supply)) as saver,
        closing(in_threads(work, prefetched(todo, reader), threads, supply.stop)) as finished,
    ):
        for job in finished:
            for output, tile in zip(job.outputs, job.tiles, strict=True):
                output.note(tile)
            saver.poll(supply.finish(job))
            done += job.n_bytes
            if progress is not None:
                progress(Progress(done, total, job.tiles[0].tensor.name))


class _Saver:
    """Saves the outputs' finished tiles every few seconds, in a thread, while the work goes on."""

    def __init__(self, outputs: Sequence[Output], supply: Supply) -> None:
        self._outputs = outputs
        self._supply = supply
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._running: Future[None] | None = None
        self._due = time.monotonic() + SECONDS_BETWEEN_SAVES

    def poll(self, used_up: list[Path]) -> None:
        """Begin the next save if it is due. Raise the error of the last one, if it failed.

        used_up: fetched shards that no job needs any more. If there are any, a save is due at once,
        and they are dropped after it.
        """
        if self._running is not None:
            if not used_up and not self._running.done():
                return
            self._running.result()
            self._running = None
        if used_up or time.monotonic() >= self._due:
            batches = [output.take_batch() for output in self._outputs]
            self._running = self._pool.submit(self._save, batches, used_up)
            self._due = time.monotonic() + SECONDS_BETWEEN_SAVES

    def close(self) -> None:
        """Wait for the save under way. Raise its error, if it failed."""
        self._pool.shutdown()
        if self._running is not None:
            self._running.result()

    def _save(self, batches: Sequence[Batch], used_up: list[Path]) -> None:
        for batch in batches:
            batch.output.save(batch)
        self._supply.drop(used_up)


def in_threads(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    stop: Callable[[], None] = lambda: None,
) -> Generator[Result, None, None]:
    """Yield `work(item)` of each item as it finishes, in any order, computed in `threads` threads.

    One item more than there are threads is submitted, so that a worker always finds the next one.
    stop: called at the end, also after an error; any `work` that still waits must then give up.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        running: set[Future[Result]] = set()
        try:
            for item in items:
                running.add(pool.submit(work, item))
                if len(running) > threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in finished)
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in finished)
        finally:
            stop()
            pool.shutdown(cancel_futures=True)


def open_sources(plan: Plan) -> Reader:
    """A reader with the plan's source files open; with none if a ShardStore will fetch them."""
    return Reader(stored_tensors(plan) if plan.shards is None else ())


def _untouched(plan: Plan, layout: Layout) -> Report:
    """The report on an output that was whole before."""
    files = tuple(file.path for file in layout.files)
    n_bytes = sum(tensor.n_bytes for tensor in plan.tensors)
    return Report(files[0], files, layout.n_bytes, n_bytes, 0.0, peak_rss(), was_whole=True)


def _report(output: Output, made: Sequence[Job], seconds: float) -> Report:
    n_made = sum(
        tile.n_bytes
        for job in made
        for target, tile in zip(job.outputs, job.tiles, strict=True)
        if target is output
    )
    files = tuple(file.path for file in output.layout.files)
    return Report(
        path=files[0],
        files=files,
        n_bytes=output.layout.n_bytes,
        n_resumed=sum(tensor.n_bytes for tensor in output.plan.tensors) - n_made,
        seconds=seconds,
        peak_rss=peak_rss(),
    )
