"""Straight lines through measured points. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise


def at(points: Mapping[float, float], x: float) -> float:
    """The value at `x` of the lines through the points, x to y, of which there is at least one.

    Before the first it is level; behind the last it goes on as it came, but never falls: more
    context does not make a token cheaper.
    """
    known = sorted(points.items())
    if x <= known[0][0]:
        return known[0][1]
    for (x0, y0), (x1, y1) in pairwise(known):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    (x1, y1) = known[-1]
    (x0, y0) = known[-2] if len(known) > 1 else (x1 - 1, y1)
    return y1 + max(0.0, (y1 - y0) / (x1 - x0)) * (x - x1)
