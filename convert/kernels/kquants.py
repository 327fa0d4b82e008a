"""Quantizes to Q4_K, Q5_K and Q6_K without importance, several times as fast as ggml.

The bytes are the same as ggml's.

The slow parts are in `kquant_simd.py`; this file packs their results into the formats. A
super-block is 256 weights. It holds its blocks' scales (and minima), each as 6 or 8 bits times a
float16 per super-block, and the levels. Source: `quantize_row_q4_K_ref`, `_q5_K_ref` and
`_q6_K_ref` of llama.cpp's ggml-quants.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.kernels import kquant_simd

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_LEAST = np.float32(1e-15)  # Q6_K treats smaller weights as zeros
# With larger weights sums of cubes overflow float32, and ggml's conversions to integers differ.
_LARGEST = 1e9

_Q4_K = np.dtype([("d", "<f2", 2), ("scales", "u1", 12), ("low", "u1", (4, 32))])
_Q5_K = np.dtype(
    [("d", "<f2", 2), ("scales", "u1", 12), ("high", "u1", 32), ("low", "u1", (4, 32))]
)
_Q6_K = np.dtype(
    [("low", "u1", (2, 64)), ("high", "u1", (2, 32)), ("scales", "i1", 16), ("d", "<f2")]
)


def quantize(qtype: str, rows: Floats, out: Bytes) -> bool:
    """Quantize `rows` into `out`, as `quantize.quantize_rows` does.

    Returns False if ggml has to do it: some weights are so large, or so close together in a block,
    that float32 overflows.
    """
    with np.errstate(all="ignore"):  # float16 may overflow; the caller validates the result
        if qtype == "Q6_K":
            return _quantize_q6_k(rows.reshape(-1), out.reshape(-1))
        return _quantize_offset(_OFFSET[qtype], rows.reshape(-1), out.reshape(-1))


@dataclass(frozen=True)
class _Offset:
    """A format of levels 0 to `top` above a minimum; `trials` as in `kquant_simd.search_offset`."""

    block: np.dtype[Any]
    top: np.float32
    trials: Floats


def _quantize_offset(format: _Offset, weights: Floats, out: Bytes) -> bool:
    x = weights.reshape(-1, 32)
    scales, minima, steps, lows = (np.empty(len(x), np.float32) for _ in range(4))
    if _is_large(x) or not kquant_simd.search_offset(
        x, format.top, format.trials, scales, minima, steps, lows
    ):
        return False
    blocks = out.view(format.block)
    d, sixths = _in_6_bits(scales.reshape(-1, 8))
    d_min, sixths_min = _in_6_bits(minima.reshape(-1, 8))
    blocks["d"] = np.stack([d, d_min], -1)
    blocks["scales"] = _packed(sixths, sixths_min)
    final = (d.astype(np.float32)[:, None] * sixths).reshape(-1)
    final_min = (d_min.astype(np.float32)[:, None] * sixths_min).reshape(-1)
    levels = np.empty(x.shape, np.uint8)
    kquant_simd.round_to_levels(x, final, final_min, steps, lows, np.float32(0), format.top, levels)
    by_pair = levels.reshape(-1, 4, 2, 32)
    blocks["low"] = (by_pair[:, :, 0] & 15) | (by_pair[:, :, 1] << 4)
    if format.block is _Q5_K:  # the fifth bits; those of block j are bit j of each byte
        fifths = levels.reshape(-1, 8, 32) >> 4
        blocks["high"] = np.bitwise_or.reduce(fifths << np.arange(8, dtype=np.uint8)[:, None], 1)
    return True


def _in_6_bits(values: Floats) -> tuple[NDArray[np.float16], Bytes]:
    """Round values [n, 8] to 6 bits: a factor [n] per super-block, and multiples 0 to 63 of it."""
    largest = np.maximum(values.max(1), 0)
    inverse = np.where(largest > 0, np.float32(63) / largest, np.float32(0))
    sixths = np.rint(inverse[:, None] * values).astype(np.int32).astype(np.uint8)
    return (largest / np.float32(63)).astype(np.float16), np.minimum(sixths, 63)


def _packed(scales: Bytes, minima: Bytes) -> Bytes:
    """Pack eight scales and eight minima of 6 bits each [n, 8] into 12 bytes [n, 12]."""
    first, last = slice(0, 4), slice(4, 8)
    return np.concatenate(
        [
            scales[:, first] | scales[:, last] >> 4 << 6,
            minima[:, first] | minima[:, last] >> 4 << 6,
            scales[:, last] & 15 | minima[:, last] << 4,
        ],
        1,
    )


def _quantize_q6_k(weights: Floats, out: Bytes) -> bool:
    x = weights.reshape(-1, 16)
    if _is_large(x):
        return False
    scales, steps = np.empty(len(x), np.float32), np.empty(len(x), np.float32)
    kquant_simd.search_symmetric(x, np.float32(32), _SYMMETRIC, _LEAST, scales, steps)
    by_super = scales.reshape(-1, 16)
    at = np.abs(by_super).argmax(1)
    largest = np.take_along_axis(by_super, at[:, None], 1)
    inverse = np.float32(-128) / largest
    blocks = out.view(_Q6_K)
    blocks["d"] = (np.float32(1) / inverse[:, 0]).astype(np.float16)
    blocks["scales"] = np.minimum(np.rint(inverse * by_super), 127)
    final = (blocks["d"].astype(np.float32)[:, None] * blocks["scales"]).reshape(-1)
    levels = np.empty(x.shape, np.uint8)
    zeros = np.zeros(len(x), np.float32)
    kquant_simd.round_to_levels(
        x, final, zeros, steps, zeros, np.float32(-32), np.float32(31), levels
    )
    levels[scales == 0] = 0
    quarters = levels.reshape(-1, 2, 4, 32)
    blocks["low"][:, :, :32] = quarters[:, :, 0] & 15 | quarters[:, :, 2] << 4
    blocks["low"][:, :, 32:] = quarters[:, :, 1] & 15 | quarters[:, :, 3] << 4
    places = np.array([0, 2, 4, 6], np.uint8)[:, None]
    blocks["high"] = np.bitwise_or.reduce(quarters >> 4 << places, 2)
    blocks[np.abs(largest[:, 0]) < _LEAST] = np.zeros((), _Q6_K)
    return True


def _is_large(x: Floats) -> bool:
    return bool(max(x.max(), -x.min()) > _LARGEST)


def _offset(block: np.dtype[Any], top: int, first: float, count: int) -> _Offset:
    tenths = np.float32(0.1) * np.arange(count, dtype=np.float32)
    trials = np.float32(first) + tenths + np.float32(top)
    return _Offset(block, np.float32(top), trials.astype(np.float32))


_SYMMETRIC = -np.concatenate(
    [
        np.array([32], np.float32),
        np.float32(32) + np.float32(0.1) * np.array([*range(-9, 0), *range(1, 10)], np.float32),
    ]
)
_OFFSET = {
    "Q4_K": _offset(_Q4_K, 15, first=-1.0, count=21),
    "Q5_K": _offset(_Q5_K, 31, first=-0.5, count=16),
}
