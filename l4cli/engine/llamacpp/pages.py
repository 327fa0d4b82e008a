"""Huge pages for large buffers, where the kernel gives them to who asks (Linux, "madvise").

llama.cpp allocates the weights it copies by `posix_memalign` and touches them 4 KiB at a time: of
2 GB that is half a million faults, and as many entries that kernels later miss in the TLB.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_PRIVATE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *", re.ASCII)
_LARGE = 32 << 20  # bytes
_MADV_HUGEPAGE = 14


def ask_for_huge_pages() -> None:
    """For every large private mapping of this process, as far as nothing was written to it yet."""
    with contextlib.suppress(OSError):  # not Linux
        libc = ctypes.CDLL(None)
        for start, end in list(_large_mappings()):
            # Where the kernel has none to give, it says so, and all stays as it was.
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_HUGEPAGE)


def _large_mappings() -> Iterator[tuple[int, int]]:
    """Where they begin and end."""
    for line in _MAPS.read_text().splitlines():
        if match := _PRIVATE.fullmatch(line):
            start, end = int(match[1], 16), int(match[2], 16)
            if end - start >= _LARGE:
                yield start, end
