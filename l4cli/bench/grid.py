"""Chooses the points to measure: as many as the time allows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from l4cli.amounts import tokens
from l4cli.errors import UsageError
from l4cli.speeds import DEFAULT_N_UBATCH, Speeds

SECONDS = 60.0  # time limit of a bench unless the user sets another
_STEP_GROWTH = 0.25  # guess: each further sequence adds this share of the time of a decode step


@dataclass(frozen=True, slots=True)
class Point:
    """One rate to measure: prefill, or decode of `batch` sequences, with `depth` tokens before."""

    kind: Literal["prefill", "decode"]
    batch: int
    depth: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The points to measure in one context.

    n_prompt: tokens that a prefill computes. n_gen: tokens that each sequence decodes.
    """

    points: tuple[Point, ...]
    n_ubatch: int
    n_prompt: int
    n_gen: int

    @property
    def n_seq_max(self) -> int:
        return max(point.batch for point in self.points)

    @property
    def n_ctx_seq(self) -> int:
        """Tokens that one sequence must be able to hold."""
        return max(point.depth + self.num_tokens(point) for point in self.points)

    def num_tokens(self, point: Point) -> int:
        """Return the tokens that one measurement of the point computes in one sequence."""
        return self.n_prompt if point.kind == "prefill" else self.n_gen


@dataclass(frozen=True, slots=True)
class Grid:
    """All points of a bench.

    depths: tokens before the measured ones.
    batches: numbers of sequences that decode together.
    ubatches: values of n_ubatch, for prefill.
    n_prompt: tokens of a measured prefill. n_gen: decoded tokens per sequence.
    repeat: measurements of each point.
    batch_depth: the greatest depth for batches above 1, whose KV cache is as many times as large.
    """

    depths: tuple[int, ...] = (0,)
    batches: tuple[int, ...] = (1,)
    ubatches: tuple[int, ...] = (DEFAULT_N_UBATCH,)
    n_prompt: int = 512
    n_gen: int = 32
    repeat: int = 3
    batch_depth: int = 1 << 62

    def stages(self) -> Iterator[Stage]:
        """Yield stages: one sequence, for each ubatch; then the batches of several sequences."""
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
        """Estimate the seconds of all stages, from the speeds of one sequence at depth 0."""
        return sum(self.stage_seconds(stage, speeds) for stage in self.stages())

    def stage_seconds(self, stage: Stage, speeds: Speeds) -> float:
        """Estimate the seconds of one stage: prefill to its greatest depth, then its points."""
        fill = max(point.depth for point in stage.points) / speeds.prefill_tps
        return fill + sum(self.point_seconds(stage, point, speeds) for point in stage.points)

    def point_seconds(self, stage: Stage, point: Point, speeds: Speeds) -> float:
        """Estimate the seconds of all repeats of one point."""
        if point.kind == "prefill":
            return self.repeat * stage.n_prompt / speeds.prefill_tps
        step = (1 + _STEP_GROWTH * (point.batch - 1)) / speeds.decode_tps
        return self.repeat * stage.n_gen * step


# From the most informative grid to the least; the first that ends in time is used. No depth is near
# the end of one of Llama 4's chunks of 8192 tokens: a repeat would have to roll back over that end,
# which means computing the chunk again.
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
    """The fields of the grid that the user fixed; None is chosen to suit the machine's speed."""

    depths: tuple[int, ...] | None = None
    batches: tuple[int, ...] | None = None
    ubatches: tuple[int, ...] | None = None
    n_prompt: int | None = None
    n_gen: int | None = None
    repeat: int | None = None

    def over(self, grid: Grid) -> Grid:
        """Return the grid with the user's values in place of its own."""
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
    """Return the most informative grid that has the user's values, fits the memory, ends in time.

    asked: the user's values.
    speeds: of one sequence at depth 0.
    n_ctx_train: tokens that the model was trained for; 0 if unknown.
    fits: returns whether a stage's KV cache fits the memory.
    seconds: the time limit.

    Raises UsageError if the user's values are longer than the model was trained for, or do not fit.
    """
    ladder = [asked.over(_within(grid, n_ctx_train)) for grid in _LADDER]
    last = ladder[-1]
    for stage in last.stages():
        if n_ctx_train and stage.n_ctx_seq > n_ctx_train:
            raise UsageError(
                f"a depth of {tokens(max(last.depths))} and "
                f"{tokens(stage.n_ctx_seq - max(last.depths))} tokens after it are "
                f"{tokens(stage.n_ctx_seq)}; the model was trained for {tokens(n_ctx_train)}"
            )
        if not fits(stage):
            raise UsageError(
                f"the KV cache of {_sequences(stage.n_seq_max)} with {tokens(stage.n_ctx_seq)} "
                "tokens would take more than half of this machine's memory: lower --batch or "
                "--depth, or use --kv-type q8_0"
            )
    for grid in ladder:
        if all(map(fits, grid.stages())) and grid.seconds(speeds) <= seconds:
            return grid
    return last


def _within(grid: Grid, n_ctx_train: int) -> Grid:
    """Return the grid without depths beyond the length that the model was trained for."""
    if not n_ctx_train:
        return grid
    n_prompt, n_gen = min(grid.n_prompt, n_ctx_train), min(grid.n_gen, n_ctx_train)
    depths = tuple(depth for depth in grid.depths if depth + max(n_prompt, n_gen) <= n_ctx_train)
    return replace(grid, depths=depths or (0,), n_prompt=n_prompt, n_gen=n_gen)


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count} sequences"
