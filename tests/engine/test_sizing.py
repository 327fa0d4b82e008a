"""The size of a context, and the number of sequences that run in it."""

from __future__ import annotations

from l4cli.engine.concurrency import ConcurrencyTuner
from l4cli.engine.sizing import ContextSize, Demand, SizingLimits, choose_size, demand_of
from l4cli.engine.types import Request, SamplingParams

LIMITS = SizingLimits(n_seq_max=64, n_ctx_seq=131072, n_cells=65536)


def request(prompt: list[int], max_tokens: int = 100) -> Request:
    return Request("r", tuple(prompt), SamplingParams(max_tokens=max_tokens))


def test_short_rows_get_a_part_each() -> None:
    assert choose_size(Demand(300, 300, None), LIMITS) == ContextSize(64 * 512, 64)
    assert choose_size(Demand(300, 300, 5), LIMITS) == ContextSize(5 * 512, 5)
    assert choose_size(Demand(1, 1, 0), LIMITS) == ContextSize(256, 1)


def test_long_rows_get_fewer_parts() -> None:
    assert choose_size(Demand(4000, 4000, None), LIMITS) == ContextSize(16 * 4096, 16)
    assert choose_size(Demand(60000, 60000, None), LIMITS).n_seq_max == 1


def test_a_long_prefix_that_all_share_is_stored_once() -> None:
    size = choose_size(Demand(30000, 200, 40), LIMITS)
    assert size.unified
    assert size.n_seq_max == 40
    assert 30000 + 39 * 200 <= size.n_ctx <= LIMITS.n_cells


def test_rows_beyond_all_limits_do_not_make_it_larger() -> None:
    limits = SizingLimits(n_seq_max=8, n_ctx_seq=1000, n_cells=65536)
    assert choose_size(Demand(10**9, 10**9, None), limits) == ContextSize(8000, 8)
    assert choose_size(Demand(10**9, 10**9, None), LIMITS) == ContextSize(65536, 1)


def test_demand_counts_what_a_request_adds_to_the_one_before() -> None:
    head = list(range(500))
    rows = [request([*head, 1000 + n, n]) for n in range(10)]
    assert demand_of(rows, more=False) == Demand(longest=602, own=152, num_requests=10)
    assert demand_of([], more=True).num_requests is None


def test_a_pool_for_documents_is_no_larger_than_they_and_their_questions() -> None:
    document = list(range(30_000))
    rows = [request([*document, n, n]) for n in range(3)]
    demand = demand_of(rows, more=False, pool=True)
    assert (demand.longest, demand.own, demand.num_requests) == (30_102, 102, 4)
    size = choose_size(demand, LIMITS)
    assert (size.unified, size.n_seq_max) == (True, 4)
    assert 30_102 + 3 * 102 <= size.n_ctx < 31_000
    many = choose_size(Demand(300, 300, None, pool=True), SizingLimits(256, 131_072, 1_000_000))
    assert many.n_seq_max == 255  # one more, the spare sequence, saves the states


def run(tuner: ConcurrencyTuner, rate: dict[int, float], running: int) -> list[int]:
    """The limits a tuner goes through if `n` sequences decode `rate[n]` tokens per second."""
    limits = [tuner.limit]
    for _ in range(50):
        n = min(running, tuner.limit)
        tuner.observe(n, n, n / rate[n])
        tuner.observe(n, 500, 100.0)  # a step with prompts is ignored
        if tuner.limit != limits[-1]:
            limits.append(tuner.limit)
    assert tuner.is_settled
    return limits


def test_all_run_where_that_is_fastest() -> None:
    assert run(ConcurrencyTuner(48), {24: 65, 48: 84}, running=48) == [48, 24, 48]
    assert run(ConcurrencyTuner(64), {10: 65, 20: 84}, running=20) == [64, 10, 64]


def test_fewer_run_where_that_is_faster() -> None:
    rates = {64: 30, 32: 60, 16: 65, 8: 50}
    assert run(ConcurrencyTuner(64), rates, running=64) == [64, 32, 64, 16, 32, 8, 16]
    assert run(ConcurrencyTuner(16), {16: 10, 8: 20, 4: 40}, running=16) == [16, 8, 16, 4, 8, 4]


def test_a_few_slow_steps_do_not_halve_the_run() -> None:
    tuner = ConcurrencyTuner(48)
    for _ in range(3):
        tuner.observe(48, 48, 0.9)  # the machine was busy with other work
    for _ in range(3):
        tuner.observe(24, 24, 0.3)
    assert (tuner.limit, tuner.is_settled) == (48, False)
    for _ in range(3):
        tuner.observe(48, 48, 0.5)
    assert (tuner.limit, tuner.is_settled) == (48, True)


def test_half_pauses_for_one_step_only_where_that_is_clearly_worse() -> None:
    tuner = ConcurrencyTuner(48)
    for _ in range(3):
        tuner.observe(48, 48, 0.27)
    assert tuner.limit == 24
    tuner.observe(24, 24, 0.18)
    assert (tuner.limit, tuner.is_settled) == (48, True)


def test_few_sequences_need_no_tuning() -> None:
    tuner = ConcurrencyTuner(4)
    for _ in range(9):
        tuner.observe(3, 3, 1.0)
    assert tuner.limit == 4
