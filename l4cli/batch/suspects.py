"""Rows that were in progress when an earlier run crashed. This module is pure.

A crash of llama.cpp ends the run, and the journal records the rows in progress. `--resume` runs
those rows one at a time, so a second crash shows which row caused it. That row then becomes an
error row, and the run continues after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.errors import CrashError

_MOST_CRASHES = 2  # after so many crashes, a row becomes an error row


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash of an earlier run: its signal, and the digests of the rows in progress."""

    signal: str
    rows: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Suspects:
    """The crashes of earlier runs, and what they mean for each row, given its digest.

    again: how a row that has crashed can be tried again.
    """

    crashes: Sequence[Crash] = ()
    again: str = "`--retry-errors` runs it again"

    def includes(self, digest: bytes) -> bool:
        """Whether the row may have caused a crash and therefore has to run alone."""
        return any(digest in crash.rows for crash in self.crashes)

    def verdict(self, digest: bytes) -> CrashError | None:
        """Return the error of a row that crashed at least twice, at least once while it ran alone.

        None for any other row.
        """
        own = [crash for crash in self.crashes if digest in crash.rows]
        if len(own) < _MOST_CRASHES or all(len(crash.rows) > 1 for crash in own):
            return None
        return CrashError(
            f"l4 crashed on this row {len(own)} times ({own[-1].signal}); {self.again}"
        )
