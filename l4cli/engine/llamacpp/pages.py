"""Asks for huge pages for large buffers, and gives pages back, where Linux does so on request.

llama.cpp allocates the weights that it copies with `posix_memalign` and touches them 4 KiB at a
time. For 2 GB that means half a million page faults, and as many page table entries that the
compute kernels later miss in the TLB.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_PRIVATE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *", re.ASCII)
_LARGE = 32 << 20  # bytes
_MADV_HUGEPAGE = 14
_MADV_DONTNEED = 4  # private memory reads as zeros afterwards


def ask_for_huge_pages() -> None:
    """Ask for huge pages in all large private mappings; only memory not yet written gets them."""
    with contextlib.suppress(OSError):  # not Linux
        libc = ctypes.CDLL(None)
        for start, end in list(_large_mappings()):
            # If the kernel has none to give, the call fails and changes nothing.
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_HUGEPAGE)


def give_back(address: int, n_bytes: int) -> None:
    """Give the whole pages within a private buffer back to the system.

    The buffer stays valid, but what was in it is lost. Nothing happens off Linux.
    """
    if sys.platform != "linux":
        return
    size = mmap.PAGESIZE
    start = -(-address // size) * size
    if (length := (address + n_bytes) // size * size - start) > 0:
        libc = ctypes.CDLL(None)
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED)


def _large_mappings() -> Iterator[tuple[int, int]]:
    """The start and end addresses of the large private mappings."""
    for line in _MAPS.read_text(errors="replace").splitlines():
        if match := _PRIVATE.fullmatch(line):
            start, end = int(match[1], 16), int(match[2], 16)
            if end - start >= _LARGE:
                yield start, end
