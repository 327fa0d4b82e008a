"""Searches scales and rounds weights for the K-quants; compiled by numba, one block per SIMD lane.

ggml's scalar kernels spend nearly all their time on one search. For every block of 32 (16) weights
they try some twenty scales, and each trial adds up sums over the weights in order. That order
determines the bits of the result, so the work within a block cannot be split. But blocks do not
depend on each other. The functions here compute the same sums for 256 blocks side by side, in the
same order within each block. The bits are the same, and it is several times as fast. There is no
fused multiply-add: numba makes none unless told to.

Source of the arithmetic: `make_qkx2_quants` and `make_qx_quants` of llama.cpp's ggml-quants.c.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, float32, int64, njit, uint8, void

LANES = 256  # blocks at a time; their data fits a core's second-level cache

_ZERO, _ONE = np.float32(0), np.float32(1)
_NARROWEST = np.float32(1e-30)
_compiled = {"nogil": True, "error_model": "numpy", "cache": True}
_row, _rows = float32[::1], float32[:, ::1]


@njit
def _line():
    return np.empty(LANES, np.float32)


@njit
def _block(width):
    return np.empty((width, LANES), np.float32)


@njit
def _turn(blocks, xs):
    for k in range(blocks.shape[0]):
        for i in range(blocks.shape[1]):
            xs[i, k] = blocks[k, i]


@njit(boolean(_rows, float32, _row, _row, _row, _row, _row), **_compiled)
def search_offset(x, top, trials, scales, minima, steps, lows):
    """Find the scale and minimum with which levels 0 to `top` fit each block best.

    A level l stands for the weight scale * l + minimum. Errors count more for larger weights.

    x: blocks of weights [n, 32].
    trials: numbers of levels [any]; each trial divides a block's span into that many levels, and
        begins from the best minimum so far.
    scales, minima: results [n]; minima are negated, as the formats store them.
    steps, lows: results [n]; the best levels are round(steps * (x - lows)), kept within 0 and top.

    Returns False, with incomplete results, if a block's weights are so close together that the
    inverse of their span would overflow.
    """
    n, width = x.shape
    xs, ws, levels = _block(width), _block(width), _block(width)
    low, high, sum_w, sum_x, found = _line(), _line(), _line(), _line(), _line()
    step, sum_l, sum_l2, sum_xl = _line(), _line(), _line(), _line()
    scale, minimum, error = _line(), _line(), _line()
    has_span = np.empty(LANES, np.bool_)
    is_narrow = False
    best_scale, best_minimum, best_error, best_step = _line(), _line(), _line(), _line()
    for start in range(0, n, LANES):
        m = min(LANES, n - start)
        _turn(x[start : start + m], xs)
        found[:m] = _ZERO
        for i in range(width):
            for k in range(m):
                found[k] += xs[i, k] * xs[i, k]
        for k in range(m):
            found[k] = np.sqrt(found[k] / np.float32(width))  # the weights' typical size
        for i in range(width):
            for k in range(m):
                ws[i, k] = found[k] + abs(xs[i, k])
        for k in range(m):
            low[k] = high[k] = xs[0, k]
            sum_w[k] = ws[0, k]
            sum_x[k] = ws[0, k] * xs[0, k]
        for i in range(1, width):
            for k in range(m):
                v = xs[i, k]
                low[k] = min(low[k], v)
                high[k] = max(high[k], v)
                sum_w[k] += ws[i, k]
                sum_x[k] += ws[i, k] * v
        for k in range(m):
            low[k] = min(low[k], _ZERO)
            has_span[k] = high[k] != low[k]
            is_narrow |= has_span[k] & (high[k] - low[k] < _NARROWEST)
            best_step[k] = top / (high[k] - low[k])
            best_scale[k] = _ONE / best_step[k]
            best_minimum[k] = low[k]
            best_error[k] = _ZERO
        if is_narrow:
            return False
        for i in range(width):
            for k in range(m):
                level = min(max(np.rint(best_step[k] * (xs[i, k] - low[k])), _ZERO), top)
                miss = best_scale[k] * level + low[k] - xs[i, k]
                best_error[k] += ws[i, k] * (miss * miss)
        for trial in trials:
            for k in range(m):
                step[k] = trial / (high[k] - best_minimum[k])
                sum_l[k] = sum_l2[k] = sum_xl[k] = error[k] = _ZERO
            for i in range(width):
                for k in range(m):
                    level = min(max(np.rint(step[k] * (xs[i, k] - best_minimum[k])), _ZERO), top)
                    levels[i, k] = level
                    weighed = ws[i, k] * level
                    sum_l[k] += weighed
                    sum_l2[k] += weighed * level
                    sum_xl[k] += weighed * xs[i, k]
            for k in range(m):  # least squares; a minimum above 0 is replaced by 0
                found[k] = sum_w[k] * sum_l2[k] - sum_l[k] * sum_l[k]
                by_scale = (sum_w[k] * sum_xl[k] - sum_x[k] * sum_l[k]) / found[k]
                by_minimum = (sum_l2[k] * sum_x[k] - sum_l[k] * sum_xl[k]) / found[k]
                scale[k] = sum_xl[k] / sum_l2[k] if by_minimum > _ZERO else by_scale
                minimum[k] = _ZERO if by_minimum > _ZERO else by_minimum
            for i in range(width):
                for k in range(m):
                    miss = scale[k] * levels[i, k] + minimum[k] - xs[i, k]
                    error[k] += ws[i, k] * (miss * miss)
            for k in range(m):
                is_better = (found[k] > _ZERO) & (error[k] < best_error[k])
                best_scale[k] = scale[k] if is_better else best_scale[k]
                best_error[k] = error[k] if is_better else best_error[k]
                best_step[k] = step[k] if is_better else best_step[k]
                low[k] = best_minimum[k] if is_better else low[k]
                best_minimum[k] = minimum[k] if is_better else best_minimum[k]
        for k in range(m):
            scales[start + k] = best_scale[k] if has_span[k] else _ZERO
            minima[start + k] = -best_minimum[k] if has_span[k] else -low[k]
            steps[start + k] = best_step[k] if has_span[k] else _ZERO
            lows[start + k] = low[k]
    return True


@njit(void(_rows, float32, _row, float32, _row, _row), **_compiled)
def search_symmetric(x, half, trials, least, scales, steps):
    """Find the scale with which levels -half to half - 1 fit each block best.

    A level l stands for the weight scale * l. Errors count by the square of the weight.

    x: blocks of weights [n, 16].
    trials: levels [any]; each trial gives its level to the block's weight of largest magnitude. The
        first trial is the result unless a later one is better.
    least: a block without a weight of at least this magnitude gets scale and step 0.
    scales, steps: results [n]; the best levels are round(steps * x), kept within their range.
    """
    n, width = x.shape
    xs = _block(width)
    largest, step, sum_l2, sum_xl = _line(), _line(), _line(), _line()
    best, best_scale, best_step = _line(), _line(), _line()
    highest = half - _ONE
    for start in range(0, n, LANES):
        m = min(LANES, n - start)
        _turn(x[start : start + m], xs)
        largest[:m] = _ZERO
        for i in range(width):
            for k in range(m):
                largest[k] = xs[i, k] if abs(xs[i, k]) > abs(largest[k]) else largest[k]
        for number in range(trials.shape[0]):
            for k in range(m):
                step[k] = trials[number] / largest[k]
                sum_l2[k] = sum_xl[k] = _ZERO
            for i in range(width):
                for k in range(m):
                    v = xs[i, k]
                    level = max(min(np.rint(step[k] * v), highest), -half)
                    weight = v * v
                    sum_xl[k] += weight * v * level
                    sum_l2[k] += weight * level * level
            if number == 0:
                for k in range(m):
                    best_step[k] = step[k]
                    best_scale[k] = sum_xl[k] / sum_l2[k] if sum_l2[k] != _ZERO else _ZERO
                    best[k] = best_scale[k] * sum_xl[k]
            else:
                for k in range(m):
                    is_better = (sum_l2[k] > _ZERO) & (sum_xl[k] * sum_xl[k] > best[k] * sum_l2[k])
                    best_scale[k] = sum_xl[k] / sum_l2[k] if is_better else best_scale[k]
                    best[k] = best_scale[k] * sum_xl[k] if is_better else best[k]
                    best_step[k] = step[k] if is_better else best_step[k]
        for k in range(m):
            is_zero = abs(largest[k]) < least
            scales[start + k] = _ZERO if is_zero else best_scale[k]
            steps[start + k] = _ZERO if is_zero else best_step[k]


@njit(void(_rows, _row, _row, _row, _row, float32, float32, uint8[:, ::1]), **_compiled)
def round_to_levels(x, scales, minima, steps, lows, bottom, top, levels):
    """Round the weights of each block to levels, with the final scales and minima.

    x: blocks of weights [n, width].
    scales, minima: final values [n], after they were rounded to the format; minima are negated.
    steps, lows: the search's results [n]; if a block's scale is 0, its levels are
        round(steps * (x - lows)).
    bottom, top: the lowest and highest level.
    levels: the result [n, width], minus `bottom`.
    """
    n, width = x.shape
    for b in range(int64(n)):
        if scales[b] != _ZERO:
            for i in range(width):
                level = np.rint((x[b, i] + minima[b]) / scales[b])
                levels[b, i] = uint8(int64(min(max(level, bottom), top) - bottom))
        else:
            for i in range(width):
                level = np.rint(steps[b] * (x[b, i] - lows[b]))
                levels[b, i] = uint8(int64(min(max(level, bottom), top) - bottom))
