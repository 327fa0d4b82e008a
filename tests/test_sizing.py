"""How large a context is made, and how many sequences run in it."""

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


def run(tuner: ConcurrencyTuner, rate: dict[int, float], steps: int = 50) -> list[int]:
    """The limits a tuner goes through where `n` sequences decode `rate[n]` tokens a second."""
    limits = [tuner.limit]
    for _ in range(steps):
        tuner.observe(tuner.limit, tuner.limit, tuner.limit / rate[tuner.limit])
        tuner.observe(tuner.limit, 500, 100.0)  # a prompt among them is no sign
        if tuner.limit != limits[-1]:
            limits.append(tuner.limit)
    return limits


def test_concurrency_grows_while_it_pays() -> None:
    assert run(ConcurrencyTuner(48), {16: 65, 32: 74, 48: 84}) == [16, 32, 48]
    assert run(ConcurrencyTuner(64), {16: 65, 32: 80, 64: 70}) == [16, 32, 64, 32]
    assert run(ConcurrencyTuner(256), {16: 65, 32: 66}) == [16, 32, 16]


def test_concurrency_of_few_sequences_needs_no_tuning() -> None:
    tuner = ConcurrencyTuner(4)
    assert (tuner.limit, tuner.is_settled) == (4, True)
