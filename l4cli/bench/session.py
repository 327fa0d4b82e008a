"""Runs one bench of a loaded model: measures a probe, chooses a grid, measures its points."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l4cli.amounts import roughly, tokens
from l4cli.bench.grid import SECONDS, Asked, Grid, Point, Stage, choose_grid
from l4cli.bench.machine import Memory, taken_bytes
from l4cli.bench.measure import Stopwatch, TimedBackend, Timing
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.types import DecodeAbortedError
from l4cli.errors import InputError
from l4cli.fit.hardware import probe
from l4cli.fit.memory import MemoryUse, memory_use
from l4cli.fit.shape import ModelShape, shape_of_file
from l4cli.native.memory import memory_bytes
from l4cli.speeds import AttentionReach, Conditions, DecodeRate, PrefillRate, Speeds

_PROBE = Stage((Point("prefill", 1, 0), Point("decode", 1, 0)), 512, n_prompt=64, n_gen=4)
_N_BATCH = 2048  # tokens in one decode; llama.cpp computes n_ubatch of them at a time
_WARM_UP = 16  # tokens
_ANY = Speeds(1.0, 1.0)
_CONTEXT_SHARE = 2  # a context may take 1/2 of the machine's memory


@dataclass(slots=True)
class Bench:
    """Measures all stages of a grid, each on a backend of its own; one exists at a time.

    make_backend: makes the backend of a stage.
    n_vocab: size of the vocabulary.
    n_ctx_train: tokens that the model was trained for; 0 if unknown.
    plan: returns the memory that a stage takes; None if unknown.
    most_bytes: of them, the most that the context may take.
    taken: returns the bytes that the process takes now.
    stopping: called between measurements; the bench ends once it returns true.
    show: called with a line on the progress.
    clock: returns seconds.
    memory: the memory at the end of each stage so far.
    """

    make_backend: Callable[[Stage], TimedBackend]
    n_vocab: int
    n_ctx_train: int
    plan: Callable[[Stage], MemoryUse | None] = lambda _stage: None
    most_bytes: int = 1 << 62
    taken: Callable[[], int | None] = taken_bytes
    stopping: Callable[[], object] = lambda: False
    show: Callable[[str], None] = lambda _text: None
    clock: Callable[[], float] = time.perf_counter
    memory: list[Memory] = field(default_factory=list, init=False)
    _backend: TimedBackend | None = field(default=None, init=False)

    def interrupt(self) -> None:
        """Make a running measurement end soon. Safe from signal handlers and other threads."""
        if self._backend:
            self._backend.interrupt()

    def run(self, asked: Asked, *, seconds: float = SECONDS) -> Iterator[Timing]:
        """Yield a timing for each point of the grid. It ends early after an interrupt.

        seconds: the time limit of the grid. Raises UsageError if the model cannot do what is asked.
        """
        choose_grid(asked, _ANY, self.n_ctx_train, self.fits)  # raises before any computation
        self.show("warming up")
        probed = list(self._measured(_PROBE, repeat=2))
        if len(probed) < len(_PROBE.points):
            return
        speeds = Speeds(probed[0].tps, probed[1].tps)
        grid = choose_grid(asked, speeds, self.n_ctx_train, self.fits, seconds=seconds)
        countdown = _Countdown(grid, speeds, self.clock)
        for stage in grid.stages():
            for timing in self._measured(stage, grid.repeat, countdown):
                yield timing
                countdown.done(stage, timing.point)

    def fits(self, stage: Stage) -> bool:
        """Whether there is memory for a stage's context; true if its size is unknown."""
        planned = self.plan(stage)
        return planned is None or planned.context <= self.most_bytes

    def _measured(
        self, stage: Stage, repeat: int, countdown: _Countdown | None = None
    ) -> Iterator[Timing]:
        if self.stopping():
            return
        backend = self._backend = self.make_backend(stage)
        try:
            stopwatch = Stopwatch(backend, self.n_vocab, clock=self.clock)
            stopwatch.warm_up(min(_WARM_UP, stage.n_ctx_seq - 1))
            for point in stage.points:
                if self.stopping():
                    return
                if countdown:
                    self.show(countdown.line(point))
                yield stopwatch.measure(stage, point, repeat)
            if countdown:
                self.memory.append(Memory(backend.n_ctx, self.plan(stage), self.taken()))
        except DecodeAbortedError:
            return
        finally:
            self._backend = None
            backend.close()


class _Countdown:
    """The progress of a bench, and an estimate of the time left."""

    def __init__(self, grid: Grid, speeds: Speeds, clock: Callable[[], float]) -> None:
        self._grid, self._speeds, self._clock = grid, speeds, clock
        self._total = grid.seconds(speeds)
        self._num_points = sum(len(stage.points) for stage in grid.stages())
        self._started = clock()
        self._num_done, self._done = 0, 0.0

    def done(self, stage: Stage, point: Point) -> None:
        self._num_done += 1
        self._done += self._grid.point_seconds(stage, point, self._speeds)

    def line(self, point: Point) -> str:
        """Return a line with the point being measured and the time left.

        The time left is the estimate, scaled by the ratio of real to estimated time so far.
        """
        elapsed = self._clock() - self._started
        scale = elapsed / self._done if self._done else 1.0
        left = max(0.0, self._total - self._done) * scale
        what = "prefill" if point.kind == "prefill" else f"decode, batch {point.batch},"
        of = f"{self._num_done + 1} of {self._num_points}"
        return f"{what} at depth {tokens(point.depth)} · {of} · {roughly(left)} left"


def bench_of(weights: LlamaModel, conditions: Conditions) -> Bench:
    """Return a bench of loaded weights. Each sequence has its own region, as in `l4 run`."""
    shape = _shape(weights.path)
    repacks = probe().repacks if conditions.repack else ()

    def sizes(stage: Stage) -> dict[str, Any]:
        return {
            "n_ctx": stage.n_seq_max * stage.n_ctx_seq,
            "n_seq_max": stage.n_seq_max,
            "n_ubatch": stage.n_ubatch,
            "kv_type": conditions.kv_type,
            "unified": stage.n_seq_max == 1,
        }

    def make_backend(stage: Stage) -> TimedBackend:
        n_batch = max(_N_BATCH, stage.n_ubatch)
        return LlamaBackend(
            weights, n_batch=n_batch, n_threads=conditions.n_threads, **sizes(stage)
        )

    def plan(stage: Stage) -> MemoryUse | None:
        if shape is None or not shape.knows_cache:
            return None
        return memory_use(shape, repack=repacks, **sizes(stage))

    return Bench(
        make_backend,
        n_vocab=weights.n_vocab,
        n_ctx_train=weights.n_ctx_train,
        plan=plan,
        most_bytes=memory_bytes() // _CONTEXT_SHARE,
        # Memory on a GPU does not count as this process's memory.
        taken=(lambda: None) if conditions.n_gpu_layers else taken_bytes,
    )


def _shape(path: Path) -> ModelShape | None:
    """Return the model's shape; None if the architecture is unknown."""
    try:
        return shape_of_file(path)
    except InputError:
        return None


def reach_of(weights: LlamaModel) -> AttentionReach:
    """Return how many tokens back the layers of a model see."""
    kind, window = weights.attention
    shape = _shape(weights.path)
    if not window or shape is None:
        return AttentionReach()
    windows = shape.cache.windows
    share = sum(map(bool, windows)) / max(1, len(windows))
    if kind == "chunked":
        return AttentionReach(share, chunk=window)
    return AttentionReach(share, window=window)


def facts(timings: list[Timing]) -> Iterator[PrefillRate | DecodeRate]:
    """Yield the timings as facts for `l4cli.speeds` to store."""
    for timing in timings:
        point, tps, spread = timing.point, timing.tps, timing.spread
        if point.kind == "prefill":
            yield PrefillRate(point.depth, timing.n_ubatch, timing.num_tokens, tps, spread)
        else:
            yield DecodeRate(point.batch, point.depth, tps, spread)
