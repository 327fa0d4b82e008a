"""What to measure, so that it tells much and ends in good time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from l4cli.errors import UsageError
from l4cli.speeds import DEFAULT_N_UBATCH, Speeds

SECONDS = 60.0  # what a bench may take unless the user asks for more
_STEP_GROWTH = 0.25  # of a step's time, a sequence more: a guess, until it is measured


@dataclass(frozen=True, slots=True)
class Point:
    """One rate to measure: prefill, or decode of `batch` sequences, behind `depth` tokens."""

    kind: Literal["prefill", "decode"]
    batch: int
    depth: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What is measured in one context: its points, and how many tokens each of them computes."""

    points: tuple[Point, ...]
    n_ubatch: int
    n_prompt: int
    n_gen: int

    @property
    def n_seq_max(self) -> int:
        return max(point.batch for point in self.points)

    @property
    def n_ctx_seq(self) -> int:
        """Tokens that a sequence must hold."""
        return max(point.depth + self.num_tokens(point) for point in self.points)

    def num_tokens(self, point: Point) -> int:
        """Tokens of one sequence that a measurement of the point computes."""
        return self.n_prompt if point.kind == "prefill" else self.n_gen


@dataclass(frozen=True, slots=True)
class Grid:
    """Which depths and batches, prompts of `n_prompt` and `n_gen` decoded tokens, how often each.

    Batches above 1 are measured up to `batch_depth`: their KV cache is as many times as large.
    """

    depths: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = (1,)
    ubatches: tuple[int, ...] = (DEFAULT_N_UBATCH,)
    n_prompt: int = 512
    n_gen: int = 32
    repeat: int = 3
    batch_depth: int = 1 << 62

    def stages(self) -> Iterator[Stage]:
        """One sequence first, at every ubatch; then, if asked for, several at once."""
        single = [Point("decode", 1, depth) for depth in self.depths if 1 in self.batches]
        for n_ubatch in self.ubatches:
            prefills = [Point("prefill", 1, depth) for depth in self.depths]
            points = sorted([*prefills, *single], key=lambda point: point.depth)
            yield Stage(tuple(points), n_ubatch, self.n_prompt, self.n_gen)
            single = []
        together = [
            Point("decode", batch, depth)
            for depth in self.depths
            for batch in self.batches
            if batch > 1 and depth <= self.batch_depth
        ]
        if together:
            yield Stage(tuple(together), self.ubatches[0], self.n_prompt, self.n_gen)

    def seconds(self, speeds: Speeds) -> float:
        """About how long it takes, with the rates of one sequence at depth 0."""
        return sum(self.stage_seconds(stage, speeds) for stage in self.stages())

    def stage_seconds(self, stage: Stage, speeds: Speeds) -> float:
        """About how long one stage takes: reading up to its greatest depth, then its points."""
        fill = max(point.depth for point in stage.points) / speeds.prefill_tps
        return fill + sum(self.point_seconds(stage, point, speeds) for point in stage.points)

    def point_seconds(self, stage: Stage, point: Point, speeds: Speeds) -> float:
        """About how long the repeats of one measurement take."""
        if point.kind == "prefill":
            return self.repeat * stage.n_prompt / speeds.prefill_tps
        step = (1 + _STEP_GROWTH * (point.batch - 1)) / speeds.decode_tps
        return self.repeat * stage.n_gen * step


# From the most telling to the least; the first that ends in time is taken. No depth is near the end
# of one of Llama 4's chunks of 8192: going back over it would mean to compute the chunk again.
_LADDER = (
    Grid((0, 4096, 20480), (1, 2, 4, 8, 16, 32), n_gen=64, repeat=5, batch_depth=4096),
    Grid((0, 2048, 6144), (1, 4, 16), batch_depth=2048),
    Grid((0, 2048), (1, 4, 16), batch_depth=0),
    Grid((0, 1024), (1, 4), n_prompt=256, n_gen=16, batch_depth=0),
    Grid((0,), (1, 4), n_prompt=128, n_gen=8),
    Grid((0,), (1,), n_prompt=64, n_gen=4, repeat=2),
    Grid((0,), (1,), n_prompt=16, n_gen=2, repeat=1),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user fixed; None is left to the speed of the machine."""

    depths: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None
    ubatches: tuple[int, ...] | None = None
    n_prompt: int | None = None
    n_gen: int | None = None
    repeat: int | None = None

    def over(self, grid: Grid) -> Grid:
        """The grid with what was asked for in the place of its own."""
        given = {name: value for name in Asked.__slots__ if (value := getattr(self, name))}
        if self.depths is not None and self.batches is not None:
            given["batch_depth"] = max(self.depths)
        return replace(grid, **given)


def choose_grid(
    asked: Asked,
    speeds: Speeds,
    n_ctx_train: int,
    fits: Callable[[Stage], bool],
    *,
    seconds: float = SECONDS,
) -> Grid:
    """The most telling grid that holds to what was asked, fits the memory, and ends in time.

    `fits` says whether a stage's KV cache does. UsageError where what was asked for is longer than
    the model was trained for, or does not fit.
    """
    ladder = [asked.over(_within(grid, n_ctx_train)) for grid in _LADDER]
    last = ladder[-1]
    for stage in last.stages():
        if n_ctx_train and stage.n_ctx_seq > n_ctx_train:
            raise UsageError(
                f"a depth of {max(last.depths)} and {stage.n_ctx_seq - max(last.depths)} tokens "
                f"behind it make {stage.n_ctx_seq}; the model was trained for {n_ctx_train}"
            )
        if not fits(stage):
            raise UsageError(
                f"the KV cache of {_sequences(stage.n_seq_max)} with {stage.n_ctx_seq} tokens "
                "would take more than half of this machine's memory: lower --batch or --depth, "
                "or use --kv-type q8_0"
            )
    for grid in ladder:
        if all(map(fits, grid.stages())) and grid.seconds(speeds) <= seconds:
            return grid
    return last


def _within(grid: Grid, n_ctx_train: int) -> Grid:
    """The grid without the depths that the model was not trained for."""
    if not n_ctx_train:
        return grid
    n_prompt, n_gen = min(grid.n_prompt, n_ctx_train), min(grid.n_gen, n_ctx_train)
    depths = tuple(depth for depth in grid.depths if depth + max(n_prompt, n_gen) <= n_ctx_train)
    return replace(grid, depths=depths or (0,), n_prompt=n_prompt, n_gen=n_gen)


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count} sequences"
