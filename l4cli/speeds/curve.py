"""Straight lines through measured points. Pure.

Points map x to y and are at least one. Before the first the curve is level; behind the last it
goes on as it came, but never falls: more context does not make a token cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise


def at(points: Mapping[float, float], x: float) -> float:
    """The curve's value at `x`."""
    known = sorted(points.items())
    if x <= known[0][0]:
        return known[0][1]
    for (x0, y0), (x1, y1) in pairwise(known):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    (x1, y1) = known[-1]
    (x0, y0) = known[-2] if len(known) > 1 else (x1 - 1, y1)
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)


def integral(points: Mapping[float, float], start: float, stop: float) -> float:
    """The area under the curve from `start` to `stop`."""
    corners = [start, *(x for x in sorted(points) if start < x < stop), stop]
    return sum((b - a) * (at(points, a) + at(points, b)) / 2 for a, b in pairwise(corners))
