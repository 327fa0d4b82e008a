"""Draws how a rate went over the last minute, in one line of a terminal. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

_BARS = "▁▂▃▄▅▆▇█"
_SECONDS = 60  # how far back a line goes


def sparkline(values: Iterable[float]) -> str:
    """Return a bar for each value, as high as its share of the largest one."""
    values = list(values)
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(7, int(8 * value / most))] for value in values)


class Rates:
    """What a counter gained in each of the last seconds."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_SECONDS)
        self._at, self._before = 0.0, 0.0

    def add(self, seconds: float, count: float) -> None:
        """Take the counter's value `seconds` after the start."""
        span = seconds - self._at
        if span < 1:
            return
        rate = (count - self._before) / span
        self._seconds.extend([rate] * min(int(span), _SECONDS))
        self._at, self._before = seconds, count

    @property
    def line(self) -> str:
        """The rates as bars; empty in the first seconds."""
        return sparkline(self._seconds) if len(self._seconds) > 1 else ""
