"""What the machine is doing besides, and what of its memory this process has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from l4cli.fit.memory import MemoryUse

_BUSY = 0.5  # processors' worth of other work, from which on figures are no longer the machine's


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of this process with a context of `n_ctx` cells filled: planned, and taken.

    None is what cannot be told: of an unknown architecture, on an unknown system.
    """

    n_ctx: int
    planned: MemoryUse | None
    taken: int | None


def load_average() -> float | None:
    """Processes that wanted to compute, over the last minute; None where nobody counts them."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def busy_note(load: float | None) -> str | None:
    """What to say of a load average from before the bench; None where there is nothing to say."""
    if load is None or load < _BUSY:
        return None
    return f"the machine was busy (load {load:.1f}): it can do better than these figures"


def peak_bytes() -> int | None:
    """The most this process ever had in memory, mapped weights included; None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
