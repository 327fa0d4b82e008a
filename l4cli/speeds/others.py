"""What else a machine computes while something is measured on it: others' work spoils figures."""

from __future__ import annotations

import os
import time
from pathlib import Path

_SPOILS = 0.5, 0.1  # processors' worth of it, and as a share of them, from which on it does
_SHORTEST = 0.2  # seconds; the system counts in hundredths of one
_IDLE = (3, 4)  # columns of /proc/stat: idle, and waiting for a disk
_GUESTS = 8  # columns from here on are counted in others, too


class OtherWork:
    """What other processes compute from its making on."""

    def __init__(self) -> None:
        self._before = _load_average()
        self._began = _computed()

    def load(self) -> float | None:
        """Processors that others kept busy, on average since then.

        Where the system does not tell whose work is whose, the load average from before; None
        where nobody counts.
        """
        now = _computed()
        if self._began is None or now is None:
            return self._before
        seconds, by_all, by_us = (b - a for a, b in zip(self._began, now, strict=True))
        return max(0.0, by_all - by_us) / seconds if seconds >= _SHORTEST else None


def is_busy(load: float | None) -> bool:
    """Whether so much work of others spoils what is measured beside it."""
    least, share = _SPOILS
    return load is not None and load >= max(least, share * (os.cpu_count() or 1))


def _computed() -> tuple[float, float, float] | None:
    """Seconds: of the clock, of all processors' work, of ours. None off Linux."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ticks = [int(field) for field in fields[:_GUESTS]]
        by_all = sum(count for column, count in enumerate(ticks) if column not in _IDLE)
        return time.perf_counter(), by_all / os.sysconf("SC_CLK_TCK"), time.process_time()
    except (OSError, ValueError):
        return None


def _load_average() -> float | None:
    """Processes that wanted to compute, over the last minute; None where nobody counts them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None
