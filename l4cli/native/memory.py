"""How much memory there is, and how much of it is free."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, version 2 and 1


def memory_bytes() -> int:
    """The machine's memory, or what a container may use of it."""
    total = machine_bytes()
    limit = container_limit()
    return total if limit is None else min(total, limit)


def machine_bytes() -> int:
    """The machine's memory, whatever part of it this process may use."""
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))


def container_limit() -> int | None:
    """What a container may use of the memory; None where it is all of it."""
    limits = []
    for name in _LIMITS:
        try:
            limits.append(int((_CGROUP / name).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    limit = min(limits, default=None)
    return None if limit is None or limit >= machine_bytes() else limit


def free_memory_bytes() -> int:
    """Bytes a process could take now: free and reclaimable, within the container's limit."""
    available = memory_bytes()
    try:
        lines = _MEMINFO.read_text().splitlines()
        meminfo = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
        available = min(available, meminfo["MemAvailable"])
    except (OSError, ValueError, KeyError, IndexError):  # not Linux
        pass
    return min(available, _left_in_cgroup(_CGROUP))


def _left_in_cgroup(root: Path) -> int:
    """What the container may still take; its page cache can be reclaimed, so it does not count."""
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        lines = (root / "memory.stat").read_text().splitlines()
        stat = {key: int(value) for key, value in (line.split() for line in lines)}
    except (OSError, ValueError):  # no limit, or none that can be read
        return 1 << 62
    cache = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    return max(0, limit - used + cache)
