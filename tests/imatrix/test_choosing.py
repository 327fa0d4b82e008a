"""Which chunk is read next, and which experts are told as cold."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from l4cli.errors import InputError
from l4cli.imatrix.choosing import Policy, Routed, cold_lines, flat
from l4cli.imatrix.chunks import Source, cut

Counts = NDArray[np.int64]


class Router:
    """Texts whose chunks always send the same tokens to the same experts."""

    def __init__(self, texts: list[list[int]], num_chunks: int) -> None:
        self.texts = [np.array(text, np.int64) for text in texts]
        self.ends = [num_chunks * (at + 1) for at in range(len(texts))]
        self.num_chunks = num_chunks

    def read(self, most: int | None, least: int | None) -> tuple[list[int], Counts]:
        """Return the texts in the order in which their chunks are read, and the experts' tokens."""
        policy, routed = Policy(self.ends, most, least), Routed()
        done: list[int] = []
        experts = np.zeros(0, np.int64)
        while (chunk := policy.next(done, experts, routed)) is not None:
            assert chunk not in done
            text = chunk // self.num_chunks
            before = experts
            experts = self.texts[text] + (before if len(before) else 0)
            routed.note(text, before, experts)
            done.append(chunk)
        return [chunk // self.num_chunks for chunk in done], experts


def test_without_coverage_chunks_are_read_in_their_order() -> None:
    router = Router([[5, 0], [0, 5]], 3)
    assert router.read(None, None)[0] == [0, 0, 0, 1, 1, 1]
    assert router.read(4, None)[0] == [0, 0, 0, 1]
    assert router.read(99, None)[0] == [0, 0, 0, 1, 1, 1]


def test_reading_ends_when_every_expert_has_enough() -> None:
    order, experts = Router([[9, 1]], 50).read(None, 10)
    assert len(order) == 10
    assert experts.tolist() == [90, 10]
    order, experts = Router([[9, 1]], 50).read(4, 10)
    assert len(order) == 4  # --chunks is the most


def test_the_text_that_fills_cold_experts_is_read_on() -> None:
    """The second text alone reaches the third expert."""
    order, experts = Router([[9, 9, 0], [8, 0, 2], [9, 9, 0]], 50).read(None, 20)
    assert order[:3] == [0, 1, 2]
    assert order[3:11] == [1] * 8
    assert sorted(order[11:]) == [0, 1]  # the first text for the second expert's last two tokens
    assert experts.min() >= 20


def test_an_expert_that_nothing_reaches_is_looked_for_in_all_chunks() -> None:
    order, experts = Router([[9, 0], [9, 0]], 4).read(None, 5)
    assert sorted(order) == [0] * 4 + [1] * 4
    assert experts.tolist() == [72, 0]


def test_cold_experts_are_told_by_layer_with_their_tokens() -> None:
    experts = {"blk.1": np.array([40, 3, 0]), "blk.2": np.array([50, 60, 32])}
    assert list(cold_lines(experts, 32)) == ["blk.1: 1 (3), 2 (0)"]
    assert list(cold_lines(experts, 33)) == ["blk.1: 1 (3), 2 (0)", "blk.2: 2 (32)"]
    many = {"blk.1": np.zeros(20, np.int64)}
    assert next(iter(cold_lines(many, 1))).endswith("11 (0) and 8 more")
    assert flat({}).tolist() == []


def test_chunks_begin_with_bos_and_do_not_overlap() -> None:
    chunks = cut([Source("a", range(10, 17)), Source("b", range(50, 56))], 3, 1)
    assert [chunks.ids(chunk) for chunk in range(chunks.count)] == [
        [1, 11, 12],
        [1, 14, 15],
        [1, 51, 52],
        [1, 54, 55],
    ]
    assert [chunks.source_of(chunk) for chunk in range(4)] == [0, 0, 1, 1]
    plain = cut([Source("a", range(10, 17))], 3, None)
    assert plain.ids(1) == [13, 14, 15]
    assert len({chunks.digest, plain.digest, cut([Source("a", range(6))], 3, 1).digest}) == 3
    with pytest.raises(InputError, match="b: it has 2 tokens, but a chunk has 3"):
        cut([Source("a", range(9)), Source("b", range(2))], 3, None)
