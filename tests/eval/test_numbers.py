"""The numbers behind `l4 eval`: chunks, steps, each token's numbers, their means."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from l4cli.errors import InputError
from l4cli.eval import figures
from l4cli.eval.chunks import Chunks, Piece, cut, steps
from l4cli.eval.numerics import Compared, Numerics
from l4cli.eval.passing import ROWS_BYTES, rows_at_once


@pytest.fixture(params=[1, 3])
def numerics(request: pytest.FixtureRequest) -> Iterator[Numerics]:
    found = Numerics(request.param)
    yield found
    found.close()


def test_a_chunk_begins_with_bos_and_its_second_half_is_scored() -> None:
    chunks = cut(list(range(100, 133)), 8, None, 7, "text")
    assert (chunks.count, chunks.first, chunks.num_scored) == (4, 4, 3)
    assert chunks.ids(1, 0, 3) == [7, 109, 110]
    assert chunks.ids(1, 4, 8) == [112, 113, 114, 115]
    assert chunks.targets(1, 4, 8) == [113, 114, 115]
    assert cut(list(range(32)), 8, 2, None, "text").count == 2
    assert cut(list(range(32)), 8, None, None, "text").ids(0, 0, 2) == [0, 1]


def test_a_text_shorter_than_two_contexts_is_refused_with_both_numbers() -> None:
    with pytest.raises(InputError, match=r"a\.txt: it has 1,023 tokens.* of 512 need 1,024"):
        cut(list(range(1023)), 512, None, None, "a.txt")


@pytest.mark.parametrize(
    ("n_ctx", "count", "width"), [(8, 3, 2), (9, 2, 2), (512, 4, 96), (7, 1, 99)]
)
def test_steps_compute_each_position_once_in_order_with_few_rows(
    n_ctx: int, count: int, width: int
) -> None:
    chunks = Chunks(list(range(n_ctx * count)), n_ctx, count)
    reached = dict.fromkeys(range(count), 0)
    for step in steps(chunks, width):
        for piece in (step.scored, step.filling):
            if piece:
                assert piece.start == reached[piece.chunk]
                reached[piece.chunk] = piece.stop
        if step.scored:
            assert step.scored.start >= chunks.first
            assert step.scored.stop - step.scored.start <= width
        if step.filling:
            assert step.filling.stop <= chunks.first
        if step.scored and step.filling:  # each in a region of its own
            assert (step.scored.chunk - step.filling.chunk) % 2 == 1
        assert step.num_tokens <= 2 * width
    assert set(reached.values()) == {n_ctx}


@pytest.mark.parametrize("n_vocab", [4096, 49_152, 128_256, 202_048, 262_144])
@pytest.mark.parametrize("num_models", [1, 2])
def test_rows_of_logits_take_little_memory_whatever_the_vocabulary(
    n_vocab: int, num_models: int
) -> None:
    rows = rows_at_once(n_vocab, 512, num_models)
    assert rows in (64, 128, 192, 256)
    held = rows * n_vocab * 4 * 2 * num_models  # in the graph and in the output of each model
    assert held <= max(ROWS_BYTES, 64 * n_vocab * 8 * num_models)


def test_log_likelihoods_are_those_of_a_softmax(numerics: Numerics) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 4, (300, 777)).astype(np.float32)
    targets = rng.integers(0, 777, 300).tolist()
    found = numerics.nll(rows, targets)
    for row, token, nll in zip(rows.astype(np.float64), targets, found, strict=True):
        expected = math.log(math.fsum(np.exp(row))) - row[token]
        assert nll == pytest.approx(expected, rel=1e-6)
    rows[3, 5] = np.nan
    assert np.isnan(numerics.nll(rows, targets)[3])


def slowly(rows: np.ndarray, base: np.ndarray, token: int) -> tuple[float, float, float, bool]:
    """nll, base nll, KL divergence and same top, in double, by the 16-bit definition."""
    q, b = rows.astype(np.float64), base.astype(np.float64)
    log_q = q - math.log(math.fsum(np.exp(q)))
    least = max(b.min(), b.max() - 16)
    scale = (b.max() - least) / 65535
    levels = [round((x - least) / scale) if x > least else 0 for x in b]
    start = least - math.log(math.fsum(np.exp(b)))
    log_b = np.array([scale * level + start for level in levels])
    kept = log_b > -16
    kld = math.fsum(np.exp(log_b[kept]) * (log_b[kept] - log_q[kept]))
    return -log_q[token], -log_b[token], kld, bool(q.argmax() == log_b.argmax())


def test_a_comparison_rounds_the_reference_to_16_bits(numerics: Numerics) -> None:
    rng = np.random.default_rng(2)
    base = rng.normal(0, 5, (40, 1000)).astype(np.float32)
    rows = (base + rng.normal(0, 0.3, base.shape)).astype(np.float32)
    base[7] = 0.5  # no scale
    targets = rng.integers(0, 1000, 40).tolist()
    found = numerics.compare(rows, numerics.reference(base, targets), targets)
    for at, token in enumerate(targets):
        if at == 7:
            assert found.base_nll[at] == pytest.approx(math.log(1000), rel=1e-5)
            continue
        nll, base_nll, kld, same = slowly(rows[at], base[at], token)
        assert found.nll[at] == pytest.approx(nll, rel=1e-5, abs=1e-5)
        assert found.base_nll[at] == pytest.approx(base_nll, rel=1e-4, abs=3e-4)
        assert found.kld[at] == pytest.approx(kld, rel=1e-3, abs=1e-5)
        assert (found.top[at] == found.base_top[at]) == same


def test_a_model_against_itself_loses_nothing(numerics: Numerics) -> None:
    rows = np.random.default_rng(3).normal(0, 1, (200, 500)).astype(np.float32)
    reference = numerics.reference(rows, [1] * 200)
    found = figures.compare(numerics.compare(rows, reference, [1] * 200))
    assert found.kld.value == pytest.approx(0, abs=1e-6)
    assert found.ratio.value == pytest.approx(1, abs=1e-4)
    assert found.correlation == pytest.approx(1, abs=1e-4)
    assert found.same_top.value > 0.98  # two logits may fall on one of the 65,536 levels


def test_figures_of_few_tokens_have_no_errors_and_no_nan() -> None:
    one = np.ones(1, np.float32)
    top = np.ones(1, np.int32)
    found = figures.compare(Compared(one, one, np.zeros(1), top, top))
    assert found.rms_delta_p == (0, 0)
    assert found.kld == (0, 0)
    assert found.same_top == (1, 0)
    assert figures.perplexity(np.full(1, 2.0)) == (math.exp(2), 0)


def test_depths_share_the_positions_evenly() -> None:
    positions = [*range(256, 511)] * 2
    found = figures.depths(positions, np.full(510, 1.0), np.arange(510.0), np.ones(510, bool))
    assert [depth.start for depth in found] == [257, 320, 384, 448]
    assert found[-1].stop == 511
    assert {round(depth.ppl, 6) for depth in found} == {round(math.e, 6)}
    assert found[0].kld is not None
    assert found[1].kld is not None
    assert found[0].kld < found[1].kld


def test_a_piece_knows_nothing_of_the_token_after_its_chunk() -> None:
    chunks = Chunks(list(range(32)), 8, 4)
    piece = Piece(1, 6, 8)
    assert chunks.targets(piece.chunk, piece.start, piece.stop) == [15]
    assert chunks.targets(1, 7, 8) == []
