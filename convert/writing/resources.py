"""What the machine gives this process, and how it is shared out among the working threads."""

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

# A transposed tile is read a piece of every stored row at a time: smaller ones, and the many small
# reads would keep a machine of many cores waiting for Python's lock.
_DEFAULT_RAM_PER_THREAD = 64 << 20
_MAX_TILE_WEIGHTS = 1 << 23
_MIN_TILE_WEIGHTS = 1 << 16  # below, a read would be of a few bytes
# Of the block being quantized: as stored, as float32, and what numpy needs in between.
_BLOCK_BYTES = 3 << 20
# ggml's library, thread stacks, the list of tiles, and what the allocator keeps.
_BESIDE_BUFFERS = 24 << 20


def tile_weights(plans: Sequence[Plan], threads: int, ram: int | None) -> int:
    """How many weights a tile may have, so that those of `threads` fit `ram` bytes.

    There is a smallest tile, however little `ram` is: see `least_buffers`.
    """
    if ram is None:
        ram = threads * _DEFAULT_RAM_PER_THREAD
    weights = int((ram / threads - _BLOCK_BYTES) / bytes_per_weight(plans))
    return max(_MIN_TILE_WEIGHTS, min(_MAX_TILE_WEIGHTS, weights))


def least_buffers(plans: Sequence[Plan], threads: int) -> int:
    """The bytes that the buffers of `threads` threads take at least."""
    return int(threads * (_MIN_TILE_WEIGHTS * bytes_per_weight(plans) + _BLOCK_BYTES)) + 1


def buffers(plans: Sequence[Plan], threads: int, ram: int | None) -> int:
    """The bytes that the buffers take when they may take `ram`."""
    weights = min(
        tile_weights(plans, threads, ram), max(t.output.n_params for t in plans[0].tensors)
    )
    return int(threads * (weights * bytes_per_weight(plans) + _BLOCK_BYTES))


def bytes_per_weight(plans: Sequence[Plan]) -> float:
    """What a weight of a tile in flight takes at most: as stored, and as each output has it."""
    return max(
        _stored_bytes(tensors[0].output.matrices[0])
        + sum(QTYPES[tensor.qtype].block_bytes / QTYPES[tensor.qtype].block for tensor in tensors)
        for tensors in zip(*(plan.tensors for plan in plans), strict=True)
    )


def _stored_bytes(matrix: object) -> int:
    """What a weight takes as read, and rows that are put into another order, once more."""
    if not isinstance(matrix, View):
        return 4
    return matrix.stored.item_bytes * (2 if matrix.head_rows else 1)


def n_cpus() -> int:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def held() -> int:
    """The bytes this process holds by now, and will hold beside its buffers."""
    return (_status("VmRSS") or peak_rss()) + _BESIDE_BUFFERS


def peak_rss() -> int:
    """The highest resident size of this process so far, in bytes."""
    # getrusage would count the process we were forked from, too.
    if highest := _status("VmHWM"):
        return highest
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(key: str) -> int | None:
    """A size in bytes that Linux tells of this process; None elsewhere."""
    status = Path("/proc/self/status")
    match = re.search(rf"{key}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(match[1]) * 1024 if match else None
