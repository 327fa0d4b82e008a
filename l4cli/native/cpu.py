"""The processor's name and features, and the number of cores that this process may use."""

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
_FIRST_BYTES = 1 << 14  # enough for the first processor's entry; a server's file has hundreds
_FEW_CORES = 8


@functools.cache
def cpu_model() -> str:
    """Return the processor's name, such as "AMD EPYC 7B13"; without /proc, Python's name for it."""
    return _entry().get("model name") or platform.processor() or platform.machine()


@functools.cache
def cpu_features() -> frozenset[str]:
    """Return the processor's instruction sets, as the Linux kernel names them; else empty."""
    entry = _entry()
    return frozenset((entry.get("flags") or entry.get("Features") or "").split())


@functools.cache
def cpu_key() -> str:
    """Return a key for the processor: a build of llama.cpp may behave differently on another."""
    known = [platform.machine(), cpu_model(), *sorted(cpu_features())]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


@functools.cache
def _entry() -> dict[str, str]:
    """Return the first processor's entry in /proc/cpuinfo."""
    try:
        with _CPUINFO.open("rb") as file:
            text = file.read(_FIRST_BYTES).decode("utf-8", "replace")
    except OSError:
        return {}
    lines = text.partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def usable_cores() -> float:
    """Return the number of processors that this process may use.

    The CPU affinity and the container's CPU limit restrict it: in a container with `--cpus 0.5` it
    is half a processor.
    """
    try:
        cores = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS and Windows
        cores = float(os.cpu_count() or 1)
    return min(cores, _quota() or cores)


def num_physical_cores() -> int:
    """Return the number of threads with which llama.cpp runs best: one per physical core.

    Hyper-threads of a core count once. With a container's CPU limit, it is no more than that limit
    can keep busy.
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
    """Return the CPU limit of the container's control group, in processors; None if unlimited."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        quota, period = _CGROUP.joinpath("cpu.max").read_text().split()[:2]
        return float(quota) / float(period)  # "max" (no limit) raises ValueError
    with contextlib.suppress(OSError, ValueError):  # control groups, version 1
        quota_us = float(_CGROUP.joinpath("cpu/cpu.cfs_quota_us").read_text())
        period_us = float(_CGROUP.joinpath("cpu/cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 and period_us > 0 else None
    return None


def shorten_spinning() -> None:
    """Let OpenMP's threads spin at a barrier for a shorter time before they sleep.

    The default time is long. It was measured to be a tenth slower on 2 cores, and ten times slower
    while another process needed a core, because spinning threads take its share. Nothing is
    changed on machines with more than 8 cores, which were not measured, or if the user has set the
    variables. Call this before llama.cpp is loaded: OpenMP reads the variable then.
    """
    is_set = os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    if not is_set and (os.cpu_count() or 1) <= _FEW_CORES:
        os.environ["GOMP_SPINCOUNT"] = "2000"
