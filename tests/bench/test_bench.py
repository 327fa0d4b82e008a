"""The points that a bench measures, its timing, and its reports."""

from __future__ import annotations

from itertools import count

import pytest
from fakes import FakeBackend

from l4cli.bench.grid import Asked, Grid, Point, Stage, choose_grid
from l4cli.bench.machine import Memory, busy_note
from l4cli.bench.measure import Stopwatch, Timing
from l4cli.bench.report import COLUMNS, as_json, columns, memory_json, memory_line, rows
from l4cli.bench.session import Bench, facts
from l4cli.errors import UsageError
from l4cli.fit.memory import MemoryUse
from l4cli.speeds import Conditions, Speeds, recall, remember

LAPTOP, SLOW, GPU = Speeds(200.0, 20.0), Speeds(4.0, 0.5), Speeds(20_000.0, 500.0)


def anything(_stage: Stage) -> bool:
    return True


@pytest.mark.parametrize(("speeds", "seconds"), [(LAPTOP, 60), (GPU, 60), (LAPTOP, 10), (SLOW, 60)])
def test_a_bench_ends_in_time_and_tells_more_on_a_faster_machine(
    speeds: Speeds, seconds: float
) -> None:
    grid = choose_grid(Asked(), speeds, 131072, anything, seconds=seconds)
    assert grid.seconds(speeds) <= seconds
    slower = Speeds(speeds.prefill_tps / 8, speeds.decode_tps / 8)
    less = choose_grid(Asked(), slower, 131072, anything, seconds=seconds)
    assert num_points(less) <= num_points(grid)


def num_points(grid: Grid) -> int:
    return sum(len(stage.points) for stage in grid.stages())


def test_what_is_asked_for_holds_whatever_it_takes() -> None:
    asked = Asked((0, 50_000), (1, 8), (128, 512), n_prompt=300, n_gen=7, repeat=4)
    grid = choose_grid(asked, SLOW, 0, anything)
    small, large, together = grid.stages()
    assert [stage.n_ubatch for stage in (small, large)] == [128, 512]
    assert [(p.kind, p.depth) for p in small.points] == [
        ("prefill", 0), ("decode", 0), ("prefill", 50_000), ("decode", 50_000),
    ]  # fmt: skip
    assert {point.kind for point in large.points} == {"prefill"}
    assert together.points == (Point("decode", 8, 0), Point("decode", 8, 50_000))
    assert (together.n_seq_max, together.n_ctx_seq, grid.repeat) == (8, 50_007, 4)


def test_depths_stay_within_what_the_model_was_trained_for() -> None:
    grid = choose_grid(Asked(), GPU, 4096, anything)
    assert all(stage.n_ctx_seq <= 4096 for stage in grid.stages())
    assert all(s.n_ctx_seq <= 16 for s in choose_grid(Asked(), GPU, 16, anything).stages())
    with pytest.raises(UsageError, match=r"8k and \d+ tokens .* trained for 4k"):
        choose_grid(Asked(depths=(8192,)), GPU, 4096, anything)


def test_a_kv_cache_too_large_is_avoided_and_refused_if_asked_for() -> None:
    def fits(stage: Stage) -> bool:
        return stage.n_seq_max * stage.n_ctx_seq <= 10_000

    assert all(map(fits, choose_grid(Asked(), GPU, 131072, fits).stages()))
    with pytest.raises(UsageError, match="64 sequences with 4,0"):
        choose_grid(Asked(depths=(4000,), batches=(64,)), GPU, 131072, fits)


class TimedFake(FakeBackend):
    """A FakeBackend that can be waited for."""

    def logits(self, output: int) -> None:
        assert output < len(self.outputs)


class TokenClock:
    """A clock that advances by 10 ms for each token that a backend decodes."""

    def __init__(self, backend: FakeBackend) -> None:
        self.backend = backend

    def __call__(self) -> float:
        return self.backend.num_decoded_tokens * 0.010


@pytest.mark.parametrize(
    "point",
    [
        Point("prefill", 1, 0),
        Point("prefill", 1, 150),
        Point("decode", 1, 70),
        Point("decode", 4, 70),
    ],
)
def test_only_what_is_measured_is_timed(point: Point) -> None:
    """The tokens before it are not timed, nor those computed again for a rollback."""
    backend = TimedFake(n_ctx=2000, n_batch=64, n_seq_max=4, unified=False)
    stage = Stage((point,), 512, n_prompt=100, n_gen=5)
    stopwatch = Stopwatch(backend, n_vocab=256, clock=TokenClock(backend))
    stopwatch.warm_up(16)
    timing = stopwatch.measure(stage, point, repeat=3)
    assert timing.num_tokens == (100 if point.kind == "prefill" else 5 * point.batch)
    assert timing.tps == pytest.approx(100.0)
    assert timing.spread == pytest.approx(0.0)
    assert [len(backend.cells[n]) for n in range(point.batch)] == [
        point.depth + stage.num_tokens(point)
    ] * point.batch


def test_the_median_counts_and_the_spread_is_told() -> None:
    timing = Timing(Point("decode", 2, 0), 512, 20, (1.0, 4.0, 2.0))
    assert (timing.tps, timing.spread) == (10.0, 0.75)


def fake_bench(backends: list[TimedFake], **options: object) -> Bench:
    def make(stage: Stage) -> TimedFake:
        n_ctx = stage.n_ctx_seq * stage.n_seq_max
        backends.append(TimedFake(n_ctx, n_batch=64, n_seq_max=stage.n_seq_max, unified=False))
        return backends[-1]

    ticks = count()
    return Bench(
        make, n_vocab=256, n_ctx_train=0, clock=lambda: next(ticks) * 0.5, **options  # type: ignore
    )  # fmt: skip


ASKED = Asked((0, 128), (1, 3), n_prompt=32, n_gen=4, repeat=2)


def test_a_bench_measures_every_point_and_leaves_nothing_open() -> None:
    backends: list[TimedFake] = []
    shown: list[str] = []
    bench = fake_bench(backends, show=shown.append)
    timings = list(bench.run(ASKED))
    assert [(t.point.kind, t.point.batch, t.point.depth) for t in timings] == [
        ("prefill", 1, 0), ("decode", 1, 0), ("prefill", 1, 128), ("decode", 1, 128),
        ("decode", 3, 0), ("decode", 3, 128),
    ]  # fmt: skip
    assert all(backend.closed for backend in backends)
    assert shown[0] == "warming up"
    assert shown[-1].startswith("decode, batch 3, at depth 128 · 6 of 6 · about ")
    assert [memory.n_ctx for memory in bench.memory] == [160, 396]


def test_an_interrupt_keeps_what_was_measured() -> None:
    backends: list[TimedFake] = []
    bench = fake_bench(backends)
    found = []
    for timing in bench.run(ASKED):
        found.append(timing)
        if len(found) == 2:
            bench.interrupt()
    assert len(found) >= 2
    assert len(found) < 6
    assert all(backend.closed for backend in backends)
    stopped = fake_bench([], stopping=lambda: True)
    assert list(stopped.run(ASKED)) == []


def test_what_was_measured_is_what_estimates_rest_on() -> None:
    timings = [
        Timing(Point("prefill", 1, 0), 512, 100, (2.0,)),
        Timing(Point("decode", 4, 0), 512, 40, (1.0,)),
    ]
    remember(Conditions("m"), *facts(timings))
    known = recall(Conditions("m"))
    assert known.prefill_seconds(1000) == pytest.approx(20.0)
    assert known.decode_tps(4) == pytest.approx(40.0)


TIMINGS = [
    Timing(Point("prefill", 1, 0), 512, 512, (0.4,)),
    Timing(Point("prefill", 1, 131072), 512, 512, (0.8,)),
    Timing(Point("decode", 32, 131072), 512, 64, (0.0001, 0.0002)),
]


def test_the_table_fits_80_columns_and_its_bars_compare() -> None:
    table = [columns(with_bar=True), *rows(TIMINGS, width=80)]
    assert max(len("  ".join(row)) for row in table) <= 80
    whole, half, alone = (len(row[-1]) for row in table[1:])
    assert whole == alone == 2 * half
    plain = rows(TIMINGS, width=None)
    assert len(plain[0]) == len(COLUMNS) == len(columns(with_bar=False))
    assert rows(TIMINGS, width=30) == plain  # no room for bars
    assert [row[0].strip() for row in rows([*TIMINGS, ubatch(64)], width=None)][-1] == "prefill @64"
    assert rows([], width=80) == []


def ubatch(n_ubatch: int) -> Timing:
    return Timing(Point("prefill", 1, 0), n_ubatch, 512, (0.4,))


def test_json_has_every_second() -> None:
    value = as_json(TIMINGS)
    assert value["decode"] == [
        {
            "batch": 32,
            "depth": 131072,
            "n_tokens": 64,
            "tokens_per_second": 426666.667,
            "spread": 0.3333,
            "seconds": [0.0001, 0.0002],
        }
    ]
    assert [row["depth"] for row in value["prefill"]] == [0, 131072]


@pytest.mark.parametrize(
    ("load", "said"), [(None, None), (0.1, None), (300.04, "the machine was busy (load 300.0)")]
)
def test_a_busy_machine_is_mentioned(load: float | None, said: str | None) -> None:
    note = busy_note(load)
    assert note == said if said is None else note is not None and note.startswith(said)


def test_memory_that_cannot_be_told_is_not_made_up() -> None:
    use = MemoryUse(5 * 10**8, 2 * 10**8, 10**8, 0, 0, 0, 0, 10**8)
    small, large = Memory(512, None, 10**9), Memory(4096, use, 4 * 10**8)
    assert memory_line([small, large]) == (
        "memory at 4k tokens: 381.5 MiB planned (KV cache 95.4 MiB), 381.5 MiB taken"
    )
    assert memory_line([small]) == "memory at 512 tokens: 953.7 MiB taken"
    assert memory_line([Memory(512, None, None)]) is None
    assert memory_json([small])[0]["planned"] is None
