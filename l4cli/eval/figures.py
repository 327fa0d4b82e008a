"""Numbers of all tokens -> means, errors and percentiles, as llama-perplexity computes them. Pure.

Its definitions are in tools/perplexity/perplexity.cpp: an error is the standard deviation of the
mean, squares of float32 numbers are float32, sums double, percentiles interpolated between ranks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from l4cli.eval.numerics import Compared, Doubles, Floats

KLD_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 10.0, 5.0, 1.0, 0.1)
DELTA_PERCENTILES = (99.9, 99.0, 95.0, 90.0, 75.0, 25.0, 10.0, 5.0, 1.0, 0.1)
_FEW = 10  # values up to here have no error
NUM_DEPTHS = 4


class Estimate(NamedTuple):
    """A mean with its error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Depth:
    """Means over the tokens of all chunks with `start` to `stop` tokens before them.

    kld and same_top are None without a reference.
    """

    start: int
    stop: int
    ppl: float
    kld: float | None = None
    same_top: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread: percentiles from the greatest to the least."""

    greatest: float
    median: float
    least: float
    percentiles: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a model loses against a reference. Probabilities and their differences are 0 to 1.

    ppl, base_ppl: perplexities of the model and of the reference.
    correlation: of the two log-perplexities.
    log_ratio, ratio, difference: ln(PPL / base), PPL / base, PPL - base.
    kld: mean KL divergence; klds: how it is spread.
    delta_p: mean change of the probability of the text's token; delta_ps: how it is spread.
    rms_delta_p: root of the mean square of that change.
    same_top: share of tokens whose likeliest token is the reference's.
    """

    ppl: Estimate
    base_ppl: Estimate
    correlation: float
    log_ratio: Estimate
    ratio: Estimate
    difference: Estimate
    kld: Estimate
    klds: Spread
    delta_p: Estimate
    delta_ps: Spread
    rms_delta_p: Estimate
    same_top: Estimate


def perplexity(nll: Doubles) -> Estimate:
    """Return the perplexity of tokens with these negative log-likelihoods, and its error."""
    count = len(nll)
    mean = float(nll.sum()) / count
    variance = float((nll * nll).sum()) / count - mean * mean
    error = math.sqrt(variance / (count - 1)) if variance > 0 and count > 1 else 0.0
    value = _exp(mean)
    return Estimate(value, error * value)


def compare(tokens: Compared) -> Comparison:
    """Return the figures of all tokens together; there is at least one."""
    nll, base, count = tokens.nll, tokens.base_nll, len(tokens.nll)
    log, log_base = _mean(nll, nll * nll), _mean(base, base * base)
    covariance = 0.0
    if count >= _FEW:
        covariance = _sum(nll * base) / count - (_sum(nll) / count) * (_sum(base) / count)
        covariance /= count - 1
    ratio_error = _root(log.error**2 + log_base.error**2 - 2 * covariance)
    log_ratio = log.value - log_base.value
    ppl, base_ppl = _exp(log.value), _exp(log_base.value)
    ppl_error, base_error = ppl * log.error, base_ppl * log_base.error
    both = log.error * log_base.error
    delta = delta_p(tokens)
    square = (delta * delta).astype(np.float64)
    mean_square = _mean(square, square * square)
    rms = math.sqrt(mean_square.value)
    same = float((tokens.top == tokens.base_top).sum()) / count
    return Comparison(
        Estimate(ppl, ppl_error),
        Estimate(base_ppl, base_error),
        covariance / both if both else 1.0,
        Estimate(log_ratio, ratio_error),
        Estimate(_exp(log_ratio), _exp(log_ratio) * ratio_error),
        Estimate(
            ppl - base_ppl,
            _root(ppl_error**2 + base_error**2 - 2 * ppl * base_ppl * covariance),
        ),
        _mean(tokens.kld, tokens.kld * tokens.kld),
        _spread(tokens.kld.astype(np.float32), KLD_PERCENTILES),
        _mean(delta, square),
        _spread(delta, DELTA_PERCENTILES),
        Estimate(rms, 0.5 / rms * mean_square.error if rms else 0.0),
        Estimate(same, math.sqrt(same * (1 - same) / max(1, count - 1))),
    )


def delta_p(tokens: Compared) -> Floats:
    """Return the change of the probability of each of the text's tokens against the reference."""
    found: Floats = np.exp(-tokens.nll) - np.exp(-tokens.base_nll)
    return found


def depths(
    positions: Sequence[int], nll: Any, kld: Doubles | None = None, same: Any = None
) -> list[Depth]:
    """Return means by the number of tokens before, in a few equal spans.

    positions: the position of each scored token's predecessor.
    nll, kld, same: numbers of each token; `same` is whether the likeliest token is the reference's.
    """
    at = np.asarray(positions)
    if not len(at):
        return []
    low, high = int(at.min()), int(at.max()) + 1
    edges = [low + (high - low) * part // NUM_DEPTHS for part in range(NUM_DEPTHS + 1)]
    found = []
    for start, stop in itertools.pairwise(edges):
        within = (at >= start) & (at < stop)
        if not within.any():
            continue
        found.append(
            Depth(
                start + 1,
                stop,
                _exp(float(np.mean(nll[within], dtype=np.float64))),
                None if kld is None else float(kld[within].mean()),
                None if same is None else float(same[within].mean()),
            )
        )
    return found


def _mean(values: Any, squares: Any) -> Estimate:
    count = len(values)
    mean = _sum(values) / count
    variance = _sum(squares) / count - mean * mean
    has_error = variance > 0 and count > _FEW
    return Estimate(mean, math.sqrt(variance / (count - 1)) if has_error else 0.0)


def _spread(values: Floats, percents: Sequence[float]) -> Spread:
    ordered = np.sort(values)
    middle = len(ordered) // 2
    median = ordered[middle]
    if len(ordered) % 2 == 0:
        median = np.float32(0.5) * (ordered[middle] + ordered[middle - 1])
    return Spread(
        float(ordered[-1]),
        float(median),
        float(ordered[0]),
        tuple((percent, _percentile(ordered, percent)) for percent in percents),
    )


def _percentile(ordered: Floats, percent: float) -> float:
    """Interpolate between ranks in float32: for many values the rank itself is rounded."""
    place = np.float32(percent / 100) * np.float32(len(ordered) - 1)
    rank = int(place)
    rest = np.float32(place - np.float32(rank))
    following = ordered[min(rank + 1, len(ordered) - 1)]
    return float((np.float32(1) - rest) * ordered[rank] + rest * following)


def _sum(values: Any) -> float:
    return float(np.sum(values, dtype=np.float64))


def _root(value: float) -> float:
    return math.sqrt(max(0.0, value))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
