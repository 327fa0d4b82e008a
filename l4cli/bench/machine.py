"""The memory that this process takes, and a note if other processes kept the machine busy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from l4cli.fit.memory import MemoryUse
from l4cli.speeds.others import is_busy


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of the process with a context of `n_ctx` cells that is filled.

    planned: what `fit.memory` computed; None for an unknown architecture.
    taken: bytes measured; None if the system does not report them. Pages of the model's file do not
        count, because the kernel can drop them and read them again.
    """

    n_ctx: int
    planned: MemoryUse | None
    taken: int | None

    @property
    def planned_to_take(self) -> int | None:
        """The planned bytes without the weights that stay in the mapped file."""
        use = self.planned
        return None if use is None else use.total - (use.weights - use.repacked)


def busy_note(load: float | None, *, kept: bool = True) -> str | None:
    """Return a note if other processes kept the machine busy during a bench, else None.

    load: the other processes' load (`OtherWork.load`).
    kept: whether estimates now use the bench's speeds.
    """
    if not is_busy(load):
        return None
    rest = (
        "estimates use these speeds until a bench runs while it is idle"
        if kept
        else "estimates still use the speeds measured before"
    )
    return f"the machine was busy (load {load:.1f}) and can be faster: {rest}"


def taken_bytes() -> int | None:
    """Return the bytes of this process's memory that are not pages of a file; None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
