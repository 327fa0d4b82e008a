"""The K-quants of `kquants` have the same bytes as those of ggml's kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from checkpoints import write_checkpoint

import convert
from convert.gguf.qtypes import QTYPES
from convert.kernels import kquants, quantize

RNG = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def weights() -> Iterator[tuple[str, np.ndarray]]:
    """Rows of all kinds that checkpoints have, and some that they should not have."""
    # Fewer blocks than lanes; and more than twice as many, but not a multiple.
    for n_rows in (1, 3, 257):
        yield f"{n_rows} rows", 0.02 * normal(n_rows, 512)
    yield "bfloat16", (normal(64, 512).astype("f4").view("u4") & 0xFFFF0000).view("f4")
    yield "heavy tails", 0.01 * RNG.standard_t(1.5, (64, 512))
    yield "one outlier", np.where(np.arange(512) == 7, 100.0, 1e-3 * normal(8, 512))
    yield "sparse", np.where(RNG.random((64, 512)) < 0.9, 0, normal(64, 512))
    zeros = normal(64, 512)
    zeros[::3], zeros[:, 32:96], zeros[5, 64:] = 0, 0, 0.5
    yield "rows and blocks of zeros", zeros
    yield "zeros of both signs", np.where(RNG.random((8, 512)) < 0.5, -0.0, 0.0)
    for constant in (0.25, -0.25):
        yield f"all {constant}", np.full((2, 512), constant)
    yield "positive", RNG.random((32, 512))
    yield "negative", -RNG.random((32, 512))
    yield "integers", RNG.integers(-3, 4, (64, 512))
    for magnitude in (1e-8, 1e-12, 1e-20, 1e4):
        yield f"about {magnitude}", magnitude * normal(32, 512)
    for width in (16, 32):
        sizes = 10.0 ** RNG.integers(-14, 2, (32, 512 // width)).repeat(width, 1)
        yield f"every {width} of another size", sizes * normal(32, 512)


@pytest.mark.parametrize("qtype", sorted(quantize.IN_LANES))
def test_the_bytes_are_ggmls(qtype: str) -> None:
    for name, rows in weights():
        rows = np.ascontiguousarray(rows, np.float32)
        theirs = np.zeros((len(rows), QTYPES[qtype].row_bytes(512)), np.uint8)
        ours = np.zeros_like(theirs)
        quantize.quantize_rows(qtype, rows, theirs)
        assert kquants.quantize(qtype, rows, ours), name
        assert (ours == theirs).all(), name


@pytest.mark.parametrize("qtype", sorted(quantize.IN_LANES))
def test_what_float32_cannot_hold_is_left_to_ggml(qtype: str) -> None:
    out = np.zeros((4, QTYPES[qtype].row_bytes(512)), np.uint8)
    rows = (1e12 * normal(4, 512)).astype(np.float32)
    assert not kquants.quantize(qtype, rows, out)
    narrow = np.zeros((4, 512), np.float32)
    narrow[2, 5] = 1e-35
    expected = np.zeros_like(out)
    quantize.quantize_rows(qtype, narrow, expected)
    assert not kquants.quantize(qtype, narrow, out) or (out == expected).all()


def test_much_work_takes_them_and_little_does_not(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = write_checkpoint(
        tmp_path_factory.mktemp("model") / "m", num_hidden_layers=1, num_local_experts=2
    )
    plans = convert.plan_all(checkpoint, ["Q4_K_M"])
    assert quantize.quantizer(plans) is quantize.quantize_rows
    monkeypatch.setattr(quantize, "_MUCH", 1 << 10)
    made = quantize.quantizer(plans)
    assert made is not quantize.quantize_rows
    rows = normal(8, 512).astype(np.float32)
    for qtype in ("Q4_K", "Q8_0"):
        for importance in (None, np.ones(512, np.float32)):
            ours, theirs = (np.zeros((8, QTYPES[qtype].row_bytes(512)), np.uint8) for _ in range(2))
            made(qtype, rows, ours, importance)
            quantize.quantize_rows(qtype, rows, theirs, importance)
            assert (ours == theirs).all()
    monkeypatch.setattr(quantize, "has_lanes", lambda: False)
    assert quantize.quantizer(plans) is quantize.quantize_rows
