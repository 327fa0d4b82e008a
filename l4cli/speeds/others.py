"""Measures the work of other processes during a measurement, because it distorts the figures."""

from __future__ import annotations

import os
import time
from pathlib import Path

_SPOILS = 0.5, 0.1  # busy processors that spoil figures: at least so many, and this share of all
_SHORTEST = 0.2  # seconds; shorter times are inexact, because the system counts in hundredths
_IDLE = (3, 4)  # columns of /proc/stat: idle, and waiting for a disk
_GUESTS = 8  # columns from here on are already counted in others


class OtherWork:
    """The work of other processes since this object was made."""

    def __init__(self) -> None:
        self._before = _load_average()
        self._began = _computed()

    def load(self) -> float | None:
        """The number of processors that others kept busy, on average since then.

        Where the system does not tell whose work it is, this is the load average from before. None
        if that is unknown, too, or if the time was too short.
        """
        now = _computed()
        if self._began is None or now is None:
            return self._before
        seconds, by_all, by_us = (b - a for a, b in zip(self._began, now, strict=True))
        return max(0.0, by_all - by_us) / seconds if seconds >= _SHORTEST else None


def is_busy(load: float | None) -> bool:
    """Whether that much work of other processes spoils a measurement."""
    least, share = _SPOILS
    return load is not None and load >= max(least, share * (os.cpu_count() or 1))


def _computed() -> tuple[float, float, float] | None:
    """Seconds: of the clock, of all processors' work, of this process's work. None off Linux."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ticks = [int(field) for field in fields[:_GUESTS]]
        by_all = sum(count for column, count in enumerate(ticks) if column not in _IDLE)
        return time.perf_counter(), by_all / os.sysconf("SC_CLK_TCK"), time.process_time()
    except (OSError, ValueError):
        return None


def _load_average() -> float | None:
    """Mean number of processes that wanted to compute in the last minute; None if unknown."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
