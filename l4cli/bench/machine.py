"""What the machine is doing besides, and what of its memory this process has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from l4cli.fit.memory import MemoryUse

_BUSY = 0.5, 0.1  # processors' worth of other work, and as a share, that figures suffer from


@dataclass(frozen=True, slots=True)
class Memory:
    """With a context of `n_ctx` cells filled: what was planned, and bytes of memory taken.

    Pages of the model's file do not count as taken: they can be dropped and read again. None is
    what cannot be told: of an unknown architecture, on an unknown system.
    """

    n_ctx: int
    planned: MemoryUse | None
    taken: int | None

    @property
    def planned_to_take(self) -> int | None:
        """Bytes planned beside the weights that stay in the mapped file."""
        use = self.planned
        return None if use is None else use.total - (use.weights - use.repacked)


def load_average() -> float | None:
    """Processes that wanted to compute, over the last minute; None where nobody counts them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def busy_note(load: float | None) -> str | None:
    """What to say of a load average from before the bench; None where there is nothing to say."""
    least, share = _BUSY
    if load is None or load < max(least, share * (os.cpu_count() or 1)):
        return None
    return f"the machine was busy (load {load:.1f}): it can do better than these figures"


def taken_bytes() -> int | None:
    """This process's memory that is no page of a file; None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
