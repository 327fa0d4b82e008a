"""Batches of embeddings are shared between requests, and a small one is not held up."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from l4cli.serve.embedding.sharing import Job, next_batch

LENGTHS = st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=12), min_size=1, max_size=6)


def job(lengths: list[int]) -> Job:
    return Job.of([[5] * length for length in lengths], 1)


@given(LENGTHS, st.integers(20, 50), st.integers(1, 8))
def test_every_input_is_computed_once_and_batches_fit(
    lengths: list[list[int]], n_batch: int, n_seq_max: int
) -> None:
    jobs = [job(each) for each in lengths]
    done: Counter[tuple[int, int]] = Counter()
    while waiting := [one for one in jobs if one.waiting]:
        taken = next_batch(waiting, n_batch, n_seq_max)
        assert 1 <= len(taken) <= n_seq_max
        assert sum(len(one.inputs[index]) for one, index in taken) <= n_batch
        done.update((id(one), index) for one, index in taken)
    assert set(done.values()) == {1}
    assert len(done) == sum(map(len, lengths))


def test_a_small_request_is_in_the_next_batch() -> None:
    large, small = job([20] * 100), job([3])
    first = next_batch([large, small], 64, 16)
    assert (small, 0) in first
    assert sum(one is large for one, _ in first) == 3
