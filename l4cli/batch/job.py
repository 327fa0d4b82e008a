"""A row in progress."""

from __future__ import annotations

from dataclasses import dataclass, field

from l4cli.batch.ahead import Asked
from l4cli.batch.outcomes import Outcome
from l4cli.batch.requests import RowRequests
from l4cli.batch.rows import Row


@dataclass(slots=True, eq=False)
class Job:
    """A row in progress, with the outcomes of its finished requests by index."""

    position: int  # in the input, counted in rows
    row: Row
    requests: RowRequests
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    num_asked: int = 0  # requests made so far
    asked: Asked | None = None  # set if the document must be in the cache before its questions
    began: float | None = None  # time.monotonic() when the first request started, for the timeout

    @property
    def is_done(self) -> bool:
        return len(self.outcomes) == self.row.num_answers

    def is_late(self, limit: float, now: float) -> bool:
        """Whether the row has run for more than `limit` seconds."""
        return self.began is not None and now - self.began > limit
