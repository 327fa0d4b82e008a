"""The pure parts of `l4 experts`: classes of tokens, counts, figures, the map, what is saved."""

from __future__ import annotations

import math

import numpy as np
import pytest

from l4cli.experts import figures, keeping, report
from l4cli.experts.classes import CLASSES, Classes, class_of
from l4cli.experts.counts import Counts, Routed
from l4cli.experts.sections import Section, windows
from l4cli.experts.session import batches, pieces
from l4cli.fit.hardware import Gpu, Hardware
from l4cli.fit.shape import Block, ModelShape, TypeBytes


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        (b" the", "word"),
        ("水".encode(), "word"),
        (b"2024", "number"),
        (" ½".encode(), "number"),
        (b"x1", "word"),
        (b"\n\n", "space"),
        (b", ", "punctuation"),
        (b"?\n", "punctuation"),
        (b"();", "code"),
        (b" {", "code"),
        ("水".encode()[:2], "bytes"),
    ],
)
def test_the_class_of_a_token_is_that_of_its_text(piece: bytes, expected: str) -> None:
    assert class_of(piece) == expected


def test_control_tokens_are_a_class_of_their_own() -> None:
    classes = Classes({0: b"a", 1: b"", 2: b"<think>"}.__getitem__, [2])
    assert [CLASSES[index] for index in classes.of([0, 1, 2, 0])] == [
        "word",
        "control",
        "control",
        "word",
    ]


def counts(*rows: list[int]) -> Counts:
    found = Counts(list(range(len(rows))), len(rows[0]))
    found.by_class[0] = rows
    found.tokens_by_class[0] = sum(rows[0])
    return found


def test_counts_add_up_by_class_and_by_section() -> None:
    found = Counts([1, 3], 4)
    sections, classes = np.array([0, 0, 1]), np.array([0, 2, 0])
    found.add_tokens(sections, classes)
    for layer, chosen in ((1, [[0, 1], [1, 2], [0, 3]]), (3, [[3, 2], [3, 2], [3, 2]])):
        found.add(Routed(layer, sections, classes, np.array(chosen, np.int32)))
    assert found.num_tokens == 3
    assert found.tokens_by_section == {0: 2, 1: 1}
    assert found.total.tolist() == [[2, 2, 1, 1], [0, 0, 3, 3]]
    assert found.by_class[2].tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert found.by_section[1].tolist() == [[1, 0, 0, 1], [0, 0, 1, 1]]


def test_evenness_and_loads() -> None:
    even = figures.layer_of(0, np.array([5, 5, 5, 5]))
    assert (even.evenness, even.load, even.num_cold, even.num_unused) == (1.0, 1.0, 0, 0)
    one = figures.layer_of(1, np.array([0, 0, 9, 0]))
    assert (one.evenness, one.hottest, one.load, one.num_unused) == (0.0, 2, 4.0, 3)
    half = figures.layer_of(2, np.array([8, 8, 0, 0]))
    assert half.evenness == pytest.approx(0.5)
    cold = figures.layer_of(3, np.array([99, 1, 50, 50]))
    assert (cold.num_cold, cold.num_unused) == (1, 0)
    assert figures.entropy(np.array([[1, 1, 1, 1], [0, 0, 0, 0]])).tolist() == [2.0, 0.0]


def test_overlap_is_what_both_uses_share() -> None:
    here = np.array([[4, 0], [1, 1], [1, 3]])
    there = np.array([[0, 2], [5, 5], [3, 1]])
    assert figures.overlap(here, there).tolist() == [0.0, 1.0, 0.5]


def test_the_map_has_a_bar_for_each_expert_in_every_width() -> None:
    found = counts(*[[0, 1, 10, 21, 128, *[1] * 123]] * 12)
    for width in (40, 60, 80, 120, 140):
        lines = report.heat_lines(found, width)
        assert max(map(len, lines)) <= width
        assert len(lines) == 12 + 1 + (width < 131)
    assert report.heat_lines(found, 140)[1].startswith(" 0 ·▂▇██▂")
    small = report.heat_lines(counts([0, 1, 1, 6]), 80)
    assert small == ["  0  1  2  3", "0 ·· ▃▃ ▃▃ ▆▆"]


@pytest.mark.parametrize(("n_ctx", "bos"), [(4, 9), (5, None), (100, 9)])
def test_windows_have_every_token_once(n_ctx: int, bos: int | None) -> None:
    texts = [list(range(11)), [], [7], list(range(3))]
    found = list(windows([Section("x", text) for text in texts], n_ctx, bos))
    for number, text in enumerate(texts):
        own = [window.tokens for window in found if window.section == number]
        assert all(0 < len(tokens) <= n_ctx for tokens in own)
        assert all(bos is None or tokens[0] == bos for tokens in own[1:])
        begin = 1 if bos is not None else 0
        joined = [*(own[0] if own else []), *(t for each in own[1:] for t in each[begin:])]
        assert joined == text


def test_short_windows_are_computed_together_and_long_ones_in_pieces() -> None:
    lengths = [3, 3, 3, 20, 8, 8, 1]
    found = windows([Section("x", [1] * n) for n in lengths], 64, None)
    together = list(batches(found, 8, 2))
    assert [[len(w.tokens) for w in each] for each in together] == [
        [3, 3],
        [3],
        [20],
        [8],
        [8],
        [1],
    ]
    assert [
        [(i.seq_id, i.pos, len(i.tokens)) for i in items] for items in pieces(together[2], 8)
    ] == [
        [(0, 0, 8)],
        [(0, 8, 8)],
        [(0, 16, 4)],
    ]


def shape(n_layers: int, routed: int) -> ModelShape:
    from l4cli.fit.cache_shape import CacheShape

    block = Block(TypeBytes({"Q8_0": 1000}), TypeBytes({"Q8_0": routed}))
    return ModelShape(
        name="x", architecture="llama4", blocks=(block,) * n_layers,
        cache=CacheShape(32, (64,) * n_layers, (0,) * n_layers), embeddings=TypeBytes({"F16": 10}),
        output=TypeBytes({"F16": 10}), n_ctx_train=0, n_embd=1, n_vocab=1, n_merges=0,
        n_heads_width=1, n_ff=1, n_ff_experts=1, n_experts=4, n_experts_used=1,
        has_shared_expert=False, largest_routed=1, n_params=1, n_params_routed=1,
    )  # fmt: skip


@pytest.mark.parametrize("gpus", [(), (Gpu("card", 10, 10, 900e9),)])
def test_the_hottest_experts_cover_most_choices(gpus: tuple[Gpu, ...]) -> None:
    total = np.array([[70, 10, 10, 10], [25, 25, 25, 25]])
    hardware = Hardware(1 << 30, 1 << 30, 80e9, gpus)
    found = keeping.keepings(total, [0, 1], shape(2, 4 * 10**9), 100.0, "GPU" if gpus else "RAM",
                             hardware)  # fmt: skip
    half = found[2]
    assert (half.num_experts, half.n_bytes, half.saved) == (4, 4 * 10**9, 4 * 10**9)
    assert half.hits == pytest.approx((70 + 25 + 25 + 25) / 200)
    rates = [kept.tokens_per_second or 0 for kept in found]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(100)
    assert found[-1].hits == 1
    assert found[-1].saved == 0
    slow = 1e9 / (80e9 * 0.7) - 1e9 / (900e9 * 0.6) if gpus else 1e9 / 2e9
    assert rates[2] == pytest.approx(1 / (0.01 + 2 * (1 - half.hits) * slow))


def test_the_expert_that_a_class_prefers() -> None:
    whole, part = np.array([[50, 50], [90, 10]]), np.array([[10, 10], [10, 10]])
    found = figures.preference([2, 5], part, whole)
    assert (found.layer, found.expert) == (5, 1)
    assert found.share == 0.5
    assert math.isclose(found.usual, 0.1)
