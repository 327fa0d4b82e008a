"""Sets of byte ranges [start, end), used to record which bytes are done. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Range = tuple[int, int]


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes in ascending order, as few ranges as possible."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def n_covered(ranges: Iterable[Range]) -> int:
    """How many bytes are in any of the ranges."""
    return sum(end - start for start, end in merge(ranges))


def is_covered(merged: list[Range], start: int, end: int) -> bool:
    """Whether all of [start, end) is covered by `merged`, a result of `merge`."""
    index = bisect_right(merged, start, key=lambda range_: range_[0]) - 1
    return index >= 0 and end <= merged[index][1]
