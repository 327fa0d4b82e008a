"""Counts how often the kernel has killed a process of this container for lack of memory."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def num_oom_kills() -> int | None:
    """Return the number of OOM kills in this process's control group; None if it has no counter.

    The counter of the whole machine is not used, because it mostly counts unrelated processes.
    """
    for folder in (_own_group(), _CGROUPS):
        try:
            lines = (folder / "memory.events").read_text().splitlines()
            counts = dict(line.split() for line in lines)
            return int(counts["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def _own_group() -> Path:
    """Return the folder of this process's control group (version 2)."""
    try:
        lines = _PROC.read_text().splitlines()
    except OSError:
        return _CGROUPS
    paths = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return _CGROUPS / paths[0] if paths else _CGROUPS
