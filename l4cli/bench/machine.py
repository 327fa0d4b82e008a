"""What of the machine's memory this process has, and what to say of others' work on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l4cli.fit.memory import MemoryUse
from l4cli.speeds.others import is_busy


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


def busy_note(load: float | None, *, kept: bool = True) -> str | None:
    """What to say of others' work (`OtherWork.load`) beside a bench; None where there is nothing.

    `kept` tells whether its figures are what estimates now rest on.
    """
    if not is_busy(load):
        return None
    rest = (
        "estimates rest on these figures until it is measured idle"
        if kept
        else "estimates rest on what was measured before"
    )
    return f"the machine was busy (load {load:.1f}) and can do better: {rest}"


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
