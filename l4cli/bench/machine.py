"""What the machine is doing besides, and what of its memory this process has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_BUSY = 0.5  # processors' worth of other work, from which on figures are no longer the machine's


@dataclass(frozen=True, slots=True)
class ContextMemory:
    """Bytes of a context with `n_ctx` cells: its KV cache as planned, and all that it took.

    Beside the KV cache a context has buffers to compute in. None is what cannot be told.
    """

    n_ctx: int
    kv_planned: int | None
    used: int | None


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


def anonymous_bytes() -> int | None:
    """This process's memory that no file backs, so without mapped weights; None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
