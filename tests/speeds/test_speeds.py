"""Measured facts are found again under the same conditions, and time estimates follow from them."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from l4cli.speeds import (
    AttentionReach,
    Conditions,
    DecodeRate,
    EffectiveLength,
    LoadTime,
    Measured,
    OtherWork,
    PrefillRate,
    RunSpeeds,
    Speeds,
    others,
    recall,
    recall_effective_length,
    recall_placements,
    remember,
    remember_effective_length,
)

M, N = Conditions("m"), Conditions("n")


def test_speeds_are_remembered_for_a_model_and_its_slots(tmp_path: Path) -> None:
    assert recall(M).speeds(4) is None
    remember(M, RunSpeeds(4, 1.0, 2.0))
    remember(N, RunSpeeds(4, 3.0, 4.0))
    assert recall(M).speeds(4) == Speeds(1.0, 2.0)
    remember(M, RunSpeeds(64, 5.0, 6.0))
    assert recall(M).speeds(8) == Speeds(1.0, 2.0)  # from the nearest number of slots
    assert recall(Conditions("other")).speeds(8) is None
    (damaged,) = tmp_path.rglob("speeds.jsonl")
    whole = damaged.read_text().splitlines()[0]
    for content in (
        "{",
        "[]",
        "\xff",
        '{"kind": "run", "model": "m"}',
        whole.replace("2.0", "NaN"),
        whole.replace("2.0", "0"),
        whole.replace("2.0", '"2"'),
        whole.replace("run", "walk"),
    ):
        damaged.write_bytes(content.encode("latin-1"))
        assert recall(M).speeds(4) is None
    damaged.write_text(f"{{\n{whole}\n")
    assert recall(M).speeds(4) == Speeds(1.0, 2.0)  # a damaged line does not affect the others


@pytest.mark.parametrize(
    "other", [{"kv_type": "q8_0"}, {"n_threads": 2}, {"n_gpu_layers": -1}, {"model": "n"}]
)
def test_speeds_hold_under_the_same_conditions_only(other: dict[str, object]) -> None:
    remember(M, DecodeRate(1, 0, 10.0), LoadTime(2.0))
    assert recall(M).load == LoadTime(2.0)
    assert recall(replace(M, **other)) == Measured()  # type: ignore[arg-type]


def test_a_fact_measured_again_takes_the_place_of_the_old_one() -> None:
    remember(M, DecodeRate(1, 0, 10.0), DecodeRate(1, 4096, 8.0), PrefillRate(0, 512, 512, 100.0))
    remember(M, DecodeRate(1, 0, 20.0), PrefillRate(0, 128, 512, 80.0))
    known = recall(M)
    assert {(rate.depth, rate.tps) for rate in known.decode} == {(0, 20.0), (4096, 8.0)}
    assert {(rate.n_ubatch, rate.tps) for rate in known.prefill} == {(512, 100.0), (128, 80.0)}


def test_a_busy_machines_figures_never_stand_in_the_place_of_an_idle_ones() -> None:
    assert remember(M, DecodeRate(1, 0, 5.0), PrefillRate(0, 512, 512, 50.0), busy=True)
    assert recall(M).decode_tps() == 5.0  # better than nothing
    assert remember(M, DecodeRate(1, 0, 6.0), busy=True)
    assert recall(M).decode_tps() == 6.0
    # A fact from an idle machine removes all busy ones of its kind, and none can replace it.
    assert remember(M, DecodeRate(1, 4096, 20.0))
    assert recall(M).decode == (DecodeRate(1, 4096, 20.0),)
    assert recall(M).prefill == (PrefillRate(0, 512, 512, 50.0),)
    assert not remember(M, DecodeRate(1, 0, 7.0), DecodeRate(1, 4096, 7.0), busy=True)
    assert recall(M).decode == (DecodeRate(1, 4096, 20.0),)
    assert remember(replace(M, n_threads=2), DecodeRate(1, 0, 7.0), busy=True)
    assert remember(M, DecodeRate(1, 4096, 19.0))
    assert recall(M).decode == (DecodeRate(1, 4096, 19.0),)


def test_what_was_measured_wherever_the_weights_lay() -> None:
    on_card = M.placed(["a card"], -1, 20, n_layers=48)
    remember(M, DecodeRate(1, 0, 5.0))
    remember(on_card, DecodeRate(1, 0, 15.0), LoadTime(1.0))
    remember(replace(M, kv_type="q8_0"), DecodeRate(1, 0, 6.0))
    known = recall_placements(replace(M, repack=False))
    assert {placed: found.decode_tps() for placed, found in known.items()} == {
        M: 5.0,
        on_card: 15.0,
    }


@pytest.mark.parametrize(
    ("now", "load"), [((12.0, 54.0, 3.0), 1.5), ((12.0, 51.0, 3.5), 0.0), ((10.1, 54.0, 3.0), None)]
)
def test_the_work_of_others_is_all_work_but_ours(
    monkeypatch: pytest.MonkeyPatch, now: tuple[float, ...], load: float | None
) -> None:
    readings = iter([(10.0, 50.0, 2.0), now])
    monkeypatch.setattr(others, "_computed", lambda: next(readings))
    assert OtherWork().load() == load


def test_the_work_of_others_is_known_here() -> None:
    assert others._computed() is not None or others._load_average() is not None


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from l4cli.speeds import *\n"
        "for n in range(1, 41): remember(Conditions(sys.argv[1]), RunSpeeds(n, 1.0, 2.0))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("m", "n")]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(recall(M).runs) == len(recall(N).runs) == 40
    assert not list(tmp_path.rglob("speeds.jsonl.[0-9]*"))


def test_a_state_directory_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember(M, LoadTime(1.0))
    assert recall(M) == Measured()


def test_seconds_of_a_prompt_grow_with_what_it_attends_to() -> None:
    # A token at position x costs 1 + x / 1000 ms.
    rates = [PrefillRate(d, 512, 200, 1e3 / (1 + (d + 100) / 1e3)) for d in (0, 2000, 8000)]
    seconds = Measured(prefill=tuple(rates)).prefill_seconds
    assert seconds(1000, 4000) == pytest.approx(1.0 * (1 + 4.5))
    assert seconds(1000, 100_000) == pytest.approx(1.0 * (1 + 100.5))
    halves = (seconds(3000), seconds(7000, 3000))
    assert None not in halves
    assert seconds(10_000) == pytest.approx(sum(filter(None, halves)), rel=1e-3)
    one = Measured(prefill=(rates[0],))
    assert one.prefill_seconds(100, 5000) == pytest.approx(0.11)
    slow = PrefillRate(0, 64, 200, 10.0)
    assert Measured(prefill=(*rates, slow)).prefill_seconds(10, n_ubatch=100) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "reach",
    [AttentionReach(), AttentionReach(0.75, chunk=8192), AttentionReach(5 / 6, window=1024)],
)
def test_what_a_token_attends_to_is_what_it_costs(reach: AttentionReach) -> None:
    """Two measured depths suffice for all others, although layers attend differently far back."""

    def seconds(start: int, stop: int) -> float:  # 1 ms per token, 1 more per 1000 it attends to
        return sum(1e-3 + reach.seen(x + 0.5) * 1e-6 for x in range(start, stop))

    rates = tuple(PrefillRate(d, 512, 512, 512 / seconds(d, d + 512)) for d in (0, 4096))
    known = Measured(prefill=rates, reach=reach)
    for start, stop in ((1000, 9000), (8192, 16384), (20_000, 60_000)):
        found = known.prefill_seconds(stop - start, start)
        assert found == pytest.approx(seconds(start, stop), rel=0.01)


def test_layers_that_see_a_chunk_begin_anew_in_the_next() -> None:
    llama4 = AttentionReach(0.75, chunk=8192)
    assert llama4.seen(8191) == 8191
    assert llama4.seen(8192) == 2048
    assert llama4.mean_seen(0, 8192) == 4096
    assert llama4.mean_seen(8192, 16384) == 0.25 * 12288 + 0.75 * 4096
    gemma = AttentionReach(0.5, window=1024)
    assert gemma.seen(5000) == 3012
    assert gemma.mean_seen(0, 512) == 256
    assert gemma.mean_seen(700, 700) == gemma.seen(700)
    remember(M, llama4)
    assert recall(M).reach == llama4


def test_tokens_a_second_between_what_was_measured() -> None:
    # A step takes 10 ms, 2 more per sequence, and 1 more per thousand tokens of depth.
    def step(batch: int, depth: int) -> float:
        return (10 + 2 * batch + depth / 1000) / 1000

    rates = [DecodeRate(b, d, b / step(b, d)) for b in (1, 4, 16) for d in (0, 8000)]
    tps = Measured(decode=tuple(rates)).decode_tps
    for batch, depth in ((1, 0), (3, 4000), (8, 8000), (16, 32000)):
        assert tps(batch, depth) == pytest.approx(batch / step(batch, depth))
    assert tps(64, 0) == tps(16, 0)  # more sequences than measured gain nothing
    noisy = [DecodeRate(1, 0, 10.0), DecodeRate(1, 1000, 11.0)]
    assert Measured(decode=tuple(noisy)).decode_tps(1, 10**6) == pytest.approx(11.0)


def test_a_run_stands_in_for_a_bench_and_a_bench_for_a_run() -> None:
    run = Measured(runs=(RunSpeeds(8, 100.0, 20.0),))
    assert (run.prefill_seconds(50, 10_000), run.decode_tps(2)) == (0.5, 20.0)
    bench = Measured(prefill=(PrefillRate(0, 512, 512, 64.0),), decode=(DecodeRate(1, 0, 5.0),))
    assert bench.speeds(4) == Speeds(64.0, 5.0)
    nothing = Measured()
    assert (nothing.prefill_seconds(1), nothing.decode_tps(), nothing.speeds(1)) == (None,) * 3


def test_the_effective_length_belongs_to_the_weights_and_the_kv_type() -> None:
    found = EffectiveLength(4096, 16384, 0.9, 0.95)
    remember_effective_length("m", "f16", found)
    remember(M, LoadTime(1.0))
    assert recall_effective_length("m", "f16") == found
    assert recall_effective_length("m", "q4_0") is None
    shorter = EffectiveLength(2048, 2048, 0.95, 0.95)
    remember_effective_length("m", "f16", shorter)  # the longer test knew this already
    assert recall_effective_length("m", "f16") == found
    remember_effective_length("m", "f16", replace(shorter, n_tokens=8192, n_longest=8192))
    assert recall_effective_length("m", "f16") != found
    remember_effective_length("m", "f16", replace(found, n_tokens=0))
    known = recall_effective_length("m", "f16")
    assert known is not None
    assert (known.n_tokens, known.n_longest) == (0, 16384)
    assert math.isclose(known.base_score, 0.95)
