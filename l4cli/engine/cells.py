"""How many KV cells are spoken for, when sequences share prefixes. Pure.

In a unified cache a fork copies no cells: both sequences point at the same ones. So a cell is
free only when its last holder has gone, and what a request needs is its length less its prefix.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Segment:
    """Consecutive cells held by the same `holders` sequences."""

    length: int
    holders: int = 1


class CellLedger:
    """Cells held by each sequence as a chain of segments, shared ones first.

    Callers keep `used <= capacity` by asking `free` before `extend`; the ledger itself raises
    ValueError on a broken promise, since it means a scheduler bug.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._chains: dict[int, list[_Segment]] = {}

    @property
    def free(self) -> int:
        return self.capacity - self.used

    def length(self, seq_id: int) -> int:
        """Cells that `seq_id` holds, shared or not."""
        return sum(segment.length for segment in self._chains.get(seq_id, ()))

    def extend(self, seq_id: int, count: int) -> None:
        """Set `count` more cells aside for `seq_id` alone."""
        if count > self.free:
            raise ValueError(f"{count} cells asked for, {self.free} free")
        if count > 0:
            self._chains.setdefault(seq_id, []).append(_Segment(count))
            self.used += count

    def fork(self, src: int, dst: int, length: int) -> None:
        """Let `dst`, which must hold nothing, share the first `length` cells of `src`."""
        if dst in self._chains:
            raise ValueError(f"sequence {dst} is not empty")
        count = self._split(src, length)
        shared = self._chains[src][:count]
        for segment in shared:
            segment.holders += 1
        self._chains[dst] = list(shared)

    def truncate(self, seq_id: int, length: int) -> None:
        """Give up what `seq_id` holds from `length` on; 0 forgets the sequence."""
        chain = self._chains.get(seq_id, [])
        count = self._split(seq_id, length) if length else 0
        for segment in chain[count:]:
            segment.holders -= 1
            if not segment.holders:
                self.used -= segment.length
        del chain[count:]
        if not chain:
            self._chains.pop(seq_id, None)

    def _split(self, seq_id: int, length: int) -> int:
        """Make a segment of `seq_id` end at `length`; the number of segments before it."""
        at = 0
        for index, segment in enumerate(self._chains.get(seq_id, [])):
            if at == length:
                return index
            if at + segment.length > length:
                self._replace(segment, length - at)
                return index + 1
            at += segment.length
        if at != length:
            raise ValueError(f"sequence {seq_id} holds {at} cells, not {length}")
        return len(self._chains.get(seq_id, []))

    def _replace(self, segment: _Segment, head: int) -> None:
        tail = _Segment(segment.length - head, segment.holders)
        segment.length = head
        for chain in self._chains.values():
            if segment in chain:
                chain.insert(chain.index(segment) + 1, tail)
