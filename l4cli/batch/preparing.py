"""Reads rows, and makes their requests, in another thread, one at a time.

A line of a pipe may never come, a document may take minutes to parse, a template seconds to render.
The rows in flight go on meanwhile, and finished rows are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from l4cli.background import Background, Task
from l4cli.batch.ahead import Asked
from l4cli.batch.job import Job
from l4cli.batch.rows import BadRow, Row
from l4cli.engine.types import Request
from l4cli.loading.llm import LLM
from l4cli.native.watcher import Notes
from l4cli.signals import GivenUpError, giving_up

_BRIEFLY = 0.05  # seconds in which most rows are read, or rendered; the engine waits for these


@dataclass(frozen=True, slots=True)
class ReadRow:
    """The next row is being read, or was; it is None at the end of the input."""

    begun: float
    task: Task[Row | BadRow | None]


@dataclass(frozen=True, slots=True)
class MadeRequest:
    """A request of a row is being made, or was, with its document if that must be cached first."""

    begun: float
    task: Task[tuple[Request, Asked | None]]
    job: Job
    index: int


class Preparing:
    """The piece of work under way in the background, if there is one.

    source: the rows.
    in_work: where the rows in work are noted.
    has_begun: whether one of a row's requests is or was in flight. What is done for other rows ends
        at the user's first wish to stop, and is dropped.
    """

    def __init__(
        self,
        llm: LLM,
        source: Iterator[Row | BadRow],
        in_work: Notes,
        has_begun: Callable[[Job], bool],
    ) -> None:
        self._llm, self._source, self._in_work, self._has_begun = llm, source, in_work, has_begun
        self._background = Background("l4-rows")
        self._work: ReadRow | MadeRequest | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is work that was begun and not taken."""
        return self._work is not None

    def read(self) -> None:
        """Begin to read the next row."""
        task = self._background.start(partial(next, self._source, None))
        self._work = ReadRow(time.monotonic(), task)

    def make(self, job: Job) -> None:
        """Begin to make the next request of a row."""
        now, index = time.monotonic(), job.num_asked
        self._in_work.begin(job.row.digest)
        task = self._background.start(partial(_made, self._llm, job, index))
        self._work = MadeRequest(now, task, job, index)

    def wait(self, until: float | None = None, *, briefly: bool = False) -> bool:
        """Wait for the work under way; whether it is done. False, too, if the user wants to stop.

        until: time.monotonic() to wait for at most; None for no limit.
        briefly: wait at most as long as most work takes.
        """
        work = self._work
        assert work
        limit = work.begun + _BRIEFLY if briefly else until
        seconds = None if limit is None else max(0.0, limit - time.monotonic())
        job = work.job if isinstance(work, MadeRequest) else None
        self._in_work.prepare(job.row.digest if job else None)  # nothing else runs meanwhile
        try:
            with giving_up(after=2 if job and self._has_begun(job) else 1):
                return work.task.wait(seconds)
        except GivenUpError:
            return False
        finally:
            self._in_work.prepare(None)

    def take(self) -> ReadRow | MadeRequest:
        """Return the work that is done."""
        work, self._work = self._work, None
        assert work
        self._note_end(work)
        return work

    def drop_unbegun(self) -> None:
        """End and drop the work under way, unless it is for a row that has begun."""
        work = self._work
        if work is None or (isinstance(work, MadeRequest) and self._has_begun(work.job)):
            return
        self.close()
        self._note_end(work)

    def close(self) -> None:
        """End the work under way, and drop it; idempotent."""
        self._background.give_up()
        self._work = None

    def _note_end(self, work: ReadRow | MadeRequest) -> None:
        if isinstance(work, MadeRequest) and not self._has_begun(work.job):
            self._in_work.end(work.job.row.digest)


def _made(llm: LLM, job: Job, index: int) -> tuple[Request, Asked | None]:
    """Make a row's request; it runs in the background. Raises L4Error if that is not possible."""
    request = replace(job.requests.request(index), id=f"{job.position}/{index}")
    llm.check(request.params)  # compiles its constraint
    _ = job.requests.thoughts  # renders the template, for the first row
    asked = job.requests.asked if index == 0 else None
    return request, asked if asked and asked.should_prefill else None
