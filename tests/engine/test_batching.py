"""The tokens of the next batch."""

from dataclasses import dataclass

import pytest

from l4cli.engine.batching import next_batch
from l4cli.engine.engine import Engine
from l4cli.engine.sequence import Sequence
from l4cli.engine.types import Request, SamplingParams
from tests.fakes import FakeBackend


@dataclass
class Room:
    n_batch: int = 2048
    n_ubatch: int = 512
    unified: bool = False
    min_prefill: int | None = None


def running(*pending: int) -> list[Sequence]:
    """Sequences with these numbers of pending tokens; those with one pending token decode."""
    found = []
    for seq_id, count in enumerate(pending):
        sequence = Sequence(Request(str(seq_id), (1,) * (count + 10)), count + 99, seq_id=seq_id)
        sequence.num_computed_tokens = 10
        found.append(sequence)
    return found


def taken(room: Room, *pending: int) -> dict[int, int]:
    """The number of tokens that the next batch takes of each sequence, by sequence id."""
    return {c.sequence.seq_id: c.num_tokens for c in next_batch(running(*pending), room)}


def test_in_a_pool_what_decodes_goes_first() -> None:
    assert taken(Room(unified=True, n_batch=100), 90, 1, 90, 1) == {0: 90, 1: 1, 2: 8, 3: 1}


def test_in_regions_prompts_go_first() -> None:
    assert taken(Room(), 90, 1, 90, 1) == {0: 90, 2: 90}
    assert taken(Room(), 1, 1, 3) == {0: 1, 1: 1, 2: 1}  # a short rest is computed with decodes


def test_in_regions_the_longest_and_their_like_go_first_cut_to_one_length() -> None:
    assert taken(Room(), 50, 100, 90, 20) == {1: 90, 2: 90}
    assert taken(Room(), 200, 190, 180) == {0: 190, 1: 190}  # the ubatch has no room for a third


def test_a_prompt_longer_than_the_ubatch_is_taken_piece_by_piece() -> None:
    assert taken(Room(), 3000, 600) == {0: 512}


def test_like_prompts_are_cut_to_whole_tiles_if_little_is_left() -> None:
    assert taken(Room(), 70, 68, 66) == {0: 64, 1: 64, 2: 64}
    assert taken(Room(), 80, 80) == {0: 80, 1: 80}
    assert taken(Room(), 70) == {0: 70}  # if a single prompt were cut, its rest would take a batch


def test_prompts_that_are_computed_apart_may_be_of_any_length() -> None:
    assert taken(Room(min_prefill=512), 400, 30, 1, 300) == {0: 400, 1: 30, 3: 300}
    assert taken(Room(min_prefill=512), 400, 30, 1) == {0: 400}


@pytest.mark.parametrize(
    ("prefix", "own", "cached"), [(1000, 60, 996), (1000, 40, 1000), (200, 60, 200), (900, 70, 900)]
)
def test_a_fork_leaves_a_whole_tile_to_compute(prefix: int, own: int, cached: int) -> None:
    """This holds for long prefixes; with short ones, computing tokens twice would not pay."""
    engine = Engine(FakeBackend(n_ctx=8192, n_batch=2048, n_seq_max=2, unified=False))
    prompts = [(7,) * prefix + (n,) * own for n in (65, 66)]
    requests = [Request(str(n), p, SamplingParams(max_tokens=5)) for n, p in enumerate(prompts)]
    assert [done.num_cached_tokens for done in engine.generate(requests)] == [0, cached]
