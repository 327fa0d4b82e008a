"""The machine's memory, the container's limit, and the free memory."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of control groups, versions 2 and 1


def memory_bytes() -> int:
    """Return the bytes of memory that this process may use: the machine's, or the container's."""
    total = machine_bytes()
    limit = container_limit()
    return total if limit is None else min(total, limit)


def machine_bytes() -> int:
    """Return the bytes of the machine's memory, regardless of a container's limit."""
    return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))


def container_limit() -> int | None:
    """Return the container's memory limit in bytes; None if there is no limit."""
    limits = []
    for name in _LIMITS:
        try:
            limits.append(int((_CGROUP / name).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    limit = min(limits, default=None)
    return None if limit is None or limit >= machine_bytes() else limit


def free_memory_bytes() -> int:
    """Return the bytes that a process could take now: free and reclaimable memory.

    The container's limit is respected.
    """
    available = memory_bytes()
    try:
        lines = _MEMINFO.read_text().splitlines()
        meminfo = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
        available = min(available, meminfo["MemAvailable"])
    except (OSError, ValueError, KeyError, IndexError):  # not Linux
        pass
    return min(available, _left_in_cgroup(_CGROUP))


def _left_in_cgroup(root: Path) -> int:
    """Return the bytes that the container may still take, a very large number if unlimited.

    Its page cache counts as free, because the kernel can reclaim it.
    """
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        lines = (root / "memory.stat").read_text().splitlines()
        stat = {key: int(value) for key, value in (line.split() for line in lines)}
    except (OSError, ValueError):  # no limit, or none that can be read
        return 1 << 62
    cache = stat.get("active_file", 0) + stat.get("inactive_file", 0)
    return max(0, limit - used + cache)


def give_back_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc does)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def set_soft_limit(kind: int, most: int) -> None:
    """Set a limit of this process, such as resource.RLIMIT_AS; not above the hard one.

    Systems that do not have the limit (macOS has none of memory) are left without.
    """
    import resource

    hard = resource.getrlimit(kind)[1]
    with suppress(ValueError, OSError):
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, hard))
