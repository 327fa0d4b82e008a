"""Which processor this is, and how much of it this process may use."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_FIRST_BYTES = 1 << 14  # the first processor's entry; a server's file has hundreds of them
_FEW_CORES = 8


@functools.cache
def cpu_model() -> str:
    """The processor's name, such as "AMD EPYC 7B13"; without /proc what Python knows of it."""
    return _entry().get("model name") or platform.processor() or platform.machine()


@functools.cache
def cpu_features() -> frozenset[str]:
    """The instruction sets that the processor states, as the kernel names them; empty off Linux."""
    entry = _entry()
    return frozenset((entry.get("flags") or entry.get("Features") or "").split())


@functools.cache
def cpu_key() -> str:
    """Tells processors apart on which one build of llama.cpp may behave differently."""
    known = [platform.machine(), cpu_model(), *sorted(cpu_features())]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


@functools.cache
def _entry() -> dict[str, str]:
    """The first processor's entry in /proc/cpuinfo."""
    try:
        with _CPUINFO.open("rb") as file:
            text = file.read(_FIRST_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    lines = text.partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def usable_cores() -> float:
    """Processors that this process may use: by its affinity and by the container's share.

    A container with `--cpus 0.5` may use half of one.
    """
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        cores = float(os.cpu_count() or 1)
    return min(cores, _quota() or cores)


def num_physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once: what llama.cpp runs best on.

    Where a container has a share of the processors, never more than that share can keep busy.
    """
    try:
        usable = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1
    siblings = set()
    for cpu in usable:
        try:
            siblings.add(Path(_TOPOLOGY.format(cpu)).read_text())
        except OSError:
            siblings.add(str(cpu))
    return max(1, min(len(siblings), math.ceil(usable_cores())))


def _quota() -> float | None:
    """The container's share of processors by its control group; None where it has no limit."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        quota, period = _CGROUP.joinpath("cpu.max").read_text().split()[:2]
        return float(quota) / float(period)  # "max" is a ValueError
    with contextlib.suppress(OSError, ValueError):  # version 1
        quota_us = float(_CGROUP.joinpath("cpu/cpu.cfs_quota_us").read_text())
        period_us = float(_CGROUP.joinpath("cpu/cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    return None


def shorten_spinning() -> None:
    """Let OpenMP's threads spin at a barrier for a shorter time before they sleep.

    The default is long: a tenth slower on 2 cores, and ten times slower where another process wants
    a core, too, because a spinning thread takes that process's share. Not measured with many cores,
    so nothing is changed there, nor where the user has set it. OpenMP reads it on loading.
    """
    is_set = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    if not is_set and (os.cpu_count() or 1) <= _FEW_CORES:
        os.environ["GOMP_SPINCOUNT"] = "2000"
