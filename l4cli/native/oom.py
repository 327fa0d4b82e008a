"""How often the kernel has killed a process of this container for lack of memory."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def num_oom_kills() -> int | None:
    """OOM kills in this process's control group; None where nobody counts.

    Those of the whole machine are not asked for: they are mostly others' processes.
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
    """The folder of this process's group, by control groups' version 2."""
    try:
        lines = _PROC.read_text().splitlines()
    except OSError:
        return _CGROUPS
    paths = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return _CGROUPS / paths[0] if paths else _CGROUPS
