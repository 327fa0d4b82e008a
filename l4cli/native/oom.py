"""How often the kernel has killed processes for lack of memory."""

from __future__ import annotations

from pathlib import Path

_VMSTAT = Path("/proc/vmstat")
_EVENTS = Path("/sys/fs/cgroup/memory.events")


def num_oom_kills() -> int | None:
    """OOM kills since the system started, and in this container; None where nobody counts."""
    counts = [
        int(line.split()[1])
        for path in (_VMSTAT, _EVENTS)
        for line in _lines(path)
        if line.startswith("oom_kill ") and line.split()[1].isdigit()
    ]
    return sum(counts) if counts else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
