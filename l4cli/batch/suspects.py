"""Rows that were in work when an earlier run crashed. Pure.

A crash of llama.cpp ends the run, and the journal says which rows were in work. `--resume` asks
those one at a time, so that a second crash leaves no doubt which row it was; that one becomes an
error row, and the run goes on behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.errors import CrashError

_MOST_CRASHES = 2  # of a row, before it is given up


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash of an earlier run: its signal, and the digests of the rows that were in work."""

    signal: str
    rows: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Suspects:
    """What the crashes of earlier runs say of a row, by its digest."""

    crashes: Sequence[Crash] = ()

    def includes(self, digest: bytes) -> bool:
        """Whether the row may be to blame for a crash: it is to run alone."""
        return any(digest in crash.rows for crash in self.crashes)

    def verdict(self, digest: bytes) -> CrashError | None:
        """The error of a row that crashed twice, once of them alone; None for any other."""
        own = [crash for crash in self.crashes if digest in crash.rows]
        if len(own) < _MOST_CRASHES or all(len(crash.rows) > 1 for crash in own):
            return None
        return CrashError(
            f"l4 was ended by this row {len(own)} times ({own[-1].signal}); "
            "`--retry-errors` asks it again"
        )
