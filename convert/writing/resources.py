"""The CPUs and memory this process has, and how large a tile each worker thread may have."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from convert.checkpoint.tensors import View
from convert.gguf.qtypes import QTYPES
from convert.types import Plan

# A transposed tile is read as one short piece of every stored row. With smaller tiles there would
# be so many short reads that a machine with many cores would wait for Python's lock.
_DEFAULT_RAM_PER_THREAD = 64 << 20
_MAX_TILE_WEIGHTS = 1 << 23
_MIN_TILE_WEIGHTS = 1 << 16  # with fewer, one read would be a few bytes
# A thread's copies of the block being quantized: as stored, as float32, and numpy's temporaries.
_BLOCK_BYTES = 3 << 20
# Memory apart from the buffers: ggml's library, thread stacks, the list of tiles, and the memory
# that the allocator does not return.
_BESIDE_BUFFERS = 24 << 20


def tile_weights(plans: Sequence[Plan], threads: int, ram: int | None) -> int:
    """How many weights a tile may have if the tiles of `threads` threads are to fit `ram` bytes.

    plans: the plans that are carried out together; a tile is made for each of them at once.
    ram: bytes for all buffers; None: 64 MiB per thread.

    A tile never gets smaller than `_MIN_TILE_WEIGHTS`, however small `ram` is: see `least_buffers`.
    """
    if ram is None:
        ram = threads * _DEFAULT_RAM_PER_THREAD
    weights = int((ram / threads - _BLOCK_BYTES) / bytes_per_weight(plans))
    return max(_MIN_TILE_WEIGHTS, min(_MAX_TILE_WEIGHTS, weights))


def least_buffers(plans: Sequence[Plan], threads: int) -> int:
    """The fewest bytes that the buffers of `threads` threads can take."""
    return int(threads * (_MIN_TILE_WEIGHTS * bytes_per_weight(plans) + _BLOCK_BYTES)) + 1


def buffers(plans: Sequence[Plan], threads: int, ram: int | None) -> int:
    """The bytes that the buffers take within a limit of `ram` bytes (None: the default limit)."""
    weights = min(
        tile_weights(plans, threads, ram), max(t.output.n_params for t in plans[0].tensors)
    )
    return int(threads * (weights * bytes_per_weight(plans) + _BLOCK_BYTES))


def bytes_per_weight(plans: Sequence[Plan]) -> float:
    """The most bytes that one weight of a tile takes: as stored, plus in the qtype of each plan."""
    return max(
        _stored_bytes(tensors[0].output.matrices[0])
        + sum(QTYPES[tensor.qtype].block_bytes / QTYPES[tensor.qtype].block for tensor in tensors)
        for tensors in zip(*(plan.tensors for plan in plans), strict=True)
    )


def _stored_bytes(matrix: object) -> float:
    """Bytes of one weight as it is read; twice as many if its rows are then reordered in a copy."""
    if not isinstance(matrix, View):
        return 4
    if matrix.stored.is_quantized:
        return QTYPES[matrix.stored.dtype].bits / 8
    return matrix.stored.item_bytes * (2 if matrix.head_rows else 1)


def n_cpus() -> int:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def held() -> int:
    """The bytes this process holds now, plus those it will need apart from the buffers."""
    return (_status("VmRSS") or peak_rss()) + _BESIDE_BUFFERS


def peak_rss() -> int:
    """The highest resident size of this process so far, in bytes."""
    # ru_maxrss of a forked process includes the peak of its parent, so VmHWM is better.
    if highest := _status("VmHWM"):
        return highest
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(key: str) -> int | None:
    """A size in bytes from Linux's /proc/self/status; None on other systems."""
    status = Path("/proc/self/status")
    match = re.search(rf"{key}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) * 1024 if match else None
