"""Counts the KV cells in use when sequences share prefixes. Pure.

In a pool a fork copies no cells: both sequences point at the same ones. So a cell becomes free only
when no sequence holds it any more, and a request needs cells only for the tokens after its prefix.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class _Run:
    """Consecutive cells that the same sequences hold; `holders` is the number of sequences."""

    length: int
    holders: int = 1


class CellLedger:
    """Keeps the cells of each sequence as a chain of runs, shared runs first.

    Callers ask `free` before `extend`, so that `used <= capacity`. ValueError means that a caller
    broke this rule or another one, which is a bug in the scheduler.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = 0
        self._chains: dict[int, list[_Run]] = {}

    @property
    def free(self) -> int:
        return self.capacity - self.used

    def length(self, seq_id: int) -> int:
        """Number of cells that `seq_id` holds, shared or not."""
        return sum(run.length for run in self._chains.get(seq_id, ()))

    def extend(self, seq_id: int, count: int) -> None:
        """Reserve `count` more cells for `seq_id` alone."""
        if count > self.free:
            raise ValueError(f"{count} cells asked for, {self.free} free")
        if count > 0:
            self._chains.setdefault(seq_id, []).append(_Run(count))
            self.used += count

    def fork(self, src: int, dst: int, length: int) -> None:
        """Let `dst`, which must hold nothing, share the first `length` cells of `src`."""
        if dst in self._chains:
            raise ValueError(f"sequence {dst} is not empty")
        count = self._split(src, length)
        shared = self._chains[src][:count]
        for run in shared:
            run.holders += 1
        self._chains[dst] = list(shared)

    def truncate(self, seq_id: int, length: int) -> None:
        """Release the cells of `seq_id` from position `length` on; 0 removes the sequence."""
        chain = self._chains.get(seq_id, [])
        count = self._split(seq_id, length) if length else 0
        for run in chain[count:]:
            run.holders -= 1
            if not run.holders:
                self.used -= run.length
        del chain[count:]
        if not chain:
            self._chains.pop(seq_id, None)

    def _split(self, seq_id: int, length: int) -> int:
        """Make a run of `seq_id` end at `length`; return the number of runs up to there."""
        at = 0
        for index, run in enumerate(self._chains.get(seq_id, [])):
            if at == length:
                return index
            if at + run.length > length:
                self._replace(run, length - at)
                return index + 1
            at += run.length
        if at != length:
            raise ValueError(f"sequence {seq_id} holds {at} cells, not {length}")
        return len(self._chains.get(seq_id, []))

    def _replace(self, run: _Run, head: int) -> None:
        tail = _Run(run.length - head, run.holders)
        run.length = head
        for chain in self._chains.values():
            if run in chain:
                chain.insert(chain.index(run) + 1, tail)
