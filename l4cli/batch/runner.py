"""Runs rows through the engine, keeps its slots full, and yields one output row for each.

    rows -> requests -> engine -> outcomes -> reorder window -> output rows

Everything is lazy: a request is made only when a slot can take it, even among the requests of one
row. At most `window` finished rows wait for an earlier row.

Rows are read, and their requests made, in another thread (`preparing.py`). The rows in flight go on
meanwhile, and a finished row is written.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from l4cli.batch.ahead import ReadAhead
from l4cli.batch.computing import Computing, OwnEngine, Refused
from l4cli.batch.job import Job
from l4cli.batch.outcomes import Outcome, outcome_of, refused, timed_out
from l4cli.batch.outputs import failure, first_error, has_failed, output
from l4cli.batch.preparing import MadeRequest, Preparing
from l4cli.batch.requests import BatchOptions, RowRequests
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.stats import BatchStats, is_first
from l4cli.batch.suspects import Suspects
from l4cli.documents.reading import Reading
from l4cli.engine.completion import Collector
from l4cli.engine.types import CompileAbortedError, Completion, Request, StepOutput
from l4cli.errors import L4Error
from l4cli.loading.llm import LLM
from l4cli.native.watcher import rows_in_work

_NONE = Suspects()
_LONG_FILLING, _MOST_FILLING = 0.1, 1.0  # seconds
_MOST_LOOKING_AHEAD = 2.0  # seconds
_OnAnswer = Callable[[Row, Request, Completion], None]
_OnReading = Callable[[Reading], object]


def run_rows(
    llm: LLM,
    rows: Iterable[Row | BadRow],
    options: BatchOptions,
    stats: BatchStats,
    stopping: Callable[[], int] = lambda: 0,
    on_step: Callable[[], None] = lambda: None,
    on_answer: _OnAnswer = lambda _row, _request, _completion: None,
    on_reading: _OnReading = lambda _reading: None,
    suspects: Suspects = _NONE,
    computing: Computing | None = None,
) -> Generator[tuple[Row | BadRow, dict[str, Any]], None, None]:
    """Yield each row with its output row, in input order unless `options.unordered` is set.

    llm: the model. Its context is created or resized as the rows need it.
    rows: the rows to answer. A BadRow yields an error row.
    options: settings for every row.
    stats: counts of rows and tokens, updated as the run goes on.
    stopping: how many times the user asked to stop. At 1 no further row is started, and rows in
        flight are finished. From 2 on, rows in flight are dropped as well.
    on_step: called after each step of the engine.
    on_answer: called with each request that succeeded, as it finishes.
    on_reading: called after a document was prefilled, with its token counts, times and rates.
    suspects: rows that may have caused an earlier crash. Each of them runs alone, and a row that
        has crashed twice yields an error row.
    computing: what computes the requests; None for the model's own engine.
    """
    batch = _Batch(
        llm,
        iter(rows),
        options,
        stats,
        stopping,
        on_step,
        on_answer,
        on_reading,
        suspects,
        computing or OwnEngine(llm),
    )
    try:
        while stopping() < 2:
            batch.fill()
            yield from batch.ready()
            if batch.is_idle:
                return
            batch.step()
            on_step()
        yield from batch.ready()
    finally:
        batch.close()


class _Batch:
    """The rows in flight, and the finished rows that wait for an earlier row (reorder window)."""

    def __init__(
        self,
        llm: LLM,
        source: Iterator[Row | BadRow],
        options: BatchOptions,
        stats: BatchStats,
        stopping: Callable[[], int],
        on_step: Callable[[], None],
        on_answer: _OnAnswer,
        on_reading: _OnReading,
        suspects: Suspects,
        computing: Computing,
    ) -> None:
        self.llm, self.options, self.stats, self.stopping = llm, options, stats, stopping
        self.on_answer = on_answer
        self.suspects = suspects
        self._computing = computing
        self._in_work = rows_in_work()
        self._preparing = Preparing(llm, source, self._in_work, self._has_begun)
        self._ahead = ReadAhead(llm, stats, on_step, on_reading)
        self._collector = Collector()
        self._in_flight: dict[str, tuple[Job, int, Request]] = {}
        self._prefilling: set[str] = set()  # requests without a token yet, also those that wait
        self._open: Job | None = None  # the row that still has requests to make
        self._pending: deque[tuple[Job, int, Request]] = deque()  # made, but not yet in flight
        self._done: dict[int, tuple[Row | BadRow, dict[str, Any]]] = {}  # by position
        self._num_read = 0
        self._num_written = 0
        self._exhausted = False
        self._next_filling = 0.0  # time.monotonic() from which `fill` adds requests again

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        waiting = self._in_flight or self._pending or self._open or self._done
        return self._exhausted and not (waiting or self._preparing.is_busy)

    @property
    def has_room(self) -> bool:
        return self._computing.has_room and len(self._done) < self.options.window

    @property
    def has_ready(self) -> bool:
        """Whether `ready` would yield a row."""
        return bool(self._done) and (self.options.unordered or self._num_written in self._done)

    def fill(self) -> None:
        """Add requests to the engine while it has room: of the current row, then of the next.

        Requests may take long to queue, as when constraints are compiled. So it ends early after a
        second, and the rows in flight then run for as long as it took.
        """
        if self.stopping():
            self._drop_unbegun()
        if self._in_flight and time.monotonic() < self._next_filling:
            return
        if not self._computing.is_sized and not self._resize():
            return
        began = time.monotonic()
        self._fill_until(began + _MOST_FILLING)
        ended = time.monotonic()
        if ended - began > _LONG_FILLING:
            self._next_filling = 2 * ended - began

    def _fill_until(self, deadline: float) -> None:
        while self.has_room and time.monotonic() < deadline and self._make_pending(1):
            job, _, request = self._pending[0]
            if not self._may_join(job):
                return
            if self._computing.has_space_for(request) and self._ahead.serves(job.asked):
                if not self._document_is_ready(job, request):
                    return
                try:
                    self._submit(*self._pending[0])
                except CompileAbortedError:
                    return  # the user wants to stop
                self._pending.popleft()
            elif self._in_flight:
                return  # the context can be resized when the requests in flight have finished
            elif not self._resize():
                return

    def _may_join(self, job: Job) -> bool:
        """Whether a row may run together with the rows in flight: a suspect must run alone."""
        if not self.suspects.crashes:
            return True
        others = {other.row.digest for other, _, _ in self._in_flight.values() if other is not job}
        return not others or not any(map(self.suspects.includes, (job.row.digest, *others)))

    def _drop_unbegun(self) -> None:
        """Drop rows that have not started, and what is being done for them."""
        self._preparing.drop_unbegun()
        waiting = [job for job, _, _ in self._pending] + ([self._open] if self._open else [])
        self._drop({job.position for job in waiting if not self._has_begun(job)})

    def _drop(self, dropped: set[int]) -> None:
        """Drop rows by position; with ordered output, also finished rows after them."""
        if not dropped:
            return
        self._pending = deque(item for item in self._pending if item[0].position not in dropped)
        if self._open and self._open.position in dropped:
            self._open = None
        if not self.options.unordered:
            for position in [done for done in self._done if done > min(dropped)]:
                del self._done[position]

    def _resize(self) -> bool:
        """Make a context that fits the next `look_ahead` requests, or those that come soon.

        False if there are none yet.
        """
        until = time.monotonic() + _MOST_LOOKING_AHEAD
        if not self._make_pending(self.options.look_ahead, until):
            return False
        asked = [job.asked for job, _, _ in self._pending if job.asked and not self._ahead.is_off]
        requests = [request for _, _, request in self._pending]
        self._computing.fit(requests, more=not self._exhausted, pool=bool(asked))
        if not all(map(self._ahead.serves, asked)):
            self._ahead.is_off = True  # this context cannot save or restore states
            self._computing.fit(requests, more=not self._exhausted)
        return True

    def _document_is_ready(self, job: Job, request: Request) -> bool:
        """Restore or prefill a request's document if needed; False if the request must wait."""
        if job.asked is None or self._ahead.is_off:
            return True
        if not self._in_flight and job.began is None:
            job.began = time.monotonic()
        limit = self.options.row_timeout

        def is_late() -> bool:
            return limit is not None and job.is_late(limit, time.monotonic())

        self._in_work.prepare(job.row.digest)
        try:
            is_ready = self._ahead.pin_document(
                job.asked,
                request.id,
                is_busy=bool(self._in_flight),
                stopping=lambda: self.stopping() > 1 or is_late(),
            )
        except L4Error:
            job.asked = None  # run the requests without it: each reports its own error, if any
            return True
        finally:
            self._in_work.prepare(None)
        if not (is_ready or self._in_flight) and limit is not None and is_late():
            self._give_up(job, limit)
        return is_ready

    def _make_pending(self, count: int, until: float | None = None) -> bool:
        """Make requests until `count` are pending or the input ends; whether any are pending.

        until: time.monotonic() when those that are pending are enough. None: wait briefly for each
            row and request, if there is anything else to do.
        """
        while len(self._pending) < count and len(self._done) < self.options.window:
            if until is not None and self._pending and time.monotonic() >= until:
                break
            if not (self._preparing.is_busy or self._begin_work()):
                break
            if not self._has_worked(until):
                break
            self._end_work()
        if self.stopping():
            self._drop_unbegun()
        return bool(self._pending)

    def _begin_work(self) -> bool:
        """Begin to make the next request, or to read the next row; False if neither can be done."""
        job = self._open
        if job and self._may_join(job):
            self._preparing.make(job)
        elif self.stopping():
            self._exhausted = True
        elif not (job or self._exhausted):
            self._preparing.read()
        return self._preparing.is_busy

    def _has_worked(self, until: float | None) -> bool:
        """Whether the work under way is done. Wait for it, but not long if there is other work."""
        if not (self._in_flight or self._pending or self.has_ready):
            return self._preparing.wait()
        if until is not None and self._pending:
            return self._preparing.wait(until)
        return self._preparing.wait(briefly=True)

    def _end_work(self) -> None:
        """Take what was read or made."""
        work = self._preparing.take()
        if isinstance(work, MadeRequest):
            self._take_request(work)
            return
        row = work.task.result()
        self._exhausted = row is None
        if row is not None:
            self._take_row(row)

    def _take_request(self, work: MadeRequest) -> None:
        job = work.job
        if job is not self._open:
            return  # it took too long
        try:
            request, asked = work.task.result()
        except CompileAbortedError:
            return  # the user wants to stop; if not, it is made again
        except L4Error as error:
            self._note_asked(job)
            self._settle(job, work.index, refused(error))
            return
        self._note_asked(job)
        job.asked = job.asked or asked
        self._pending.append((job, work.index, request))

    def _note_asked(self, job: Job) -> None:
        job.num_asked += 1
        if job.num_asked == job.row.num_answers:
            self._open = None

    def close(self) -> None:
        """End what is under way in the background."""
        self._preparing.close()

    def step(self) -> None:
        """Run one step of the engine and settle the requests that it finished."""
        if not self._in_flight:
            return
        started = time.perf_counter()
        outputs = self._ahead.counted(self._outputs())
        self._count(outputs, time.perf_counter() - started)
        for completion in map(self._ahead.timed, self._collector.feed(outputs)):
            job, index, request = self._in_flight.pop(completion.request_id)
            outcome = outcome_of(
                completion,
                request.params,
                job.requests.thoughts,
                more_room=job.requests.more_room(request),
            )
            if isinstance(outcome, Completion):
                self.on_answer(job.row, request, completion)
            self._settle(job, index, outcome)
        self.stats.in_work = next((job.row for job, _, _ in self._in_flight.values()), None)
        if self.options.row_timeout is not None:
            self._time_out(self.options.row_timeout, time.monotonic())

    def _outputs(self) -> list[StepOutput]:
        """Run one step, settle the requests that were refused, and return the outputs."""
        outputs: list[StepOutput] = []
        for one in self._computing.step():
            if isinstance(one, Refused):
                job, index, _ = self._in_flight.pop(one.request_id)
                self._prefilling.discard(one.request_id)
                self._settle(job, index, refused(one.error))
            else:
                outputs.append(one)
        return outputs

    def _count(self, outputs: Sequence[StepOutput], seconds: float) -> None:
        self._prefilling.difference_update(one.request_id for one in outputs if is_first(one))
        has_prefill = not self._prefilling <= self._computing.waiting
        self.stats.count_step(outputs, seconds, has_prefill=has_prefill)

    def ready(self) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
        """Yield the finished rows that no longer wait for an earlier row."""
        while self.has_ready:
            position = next(iter(self._done)) if self.options.unordered else self._num_written
            row, written = self._done.pop(position)
            self._num_written += 1
            self.stats.num_rows += 1
            if has_failed(written):
                self.stats.failed.add(row.line, *first_error(written))
            yield row, written

    def _take_row(self, row: Row | BadRow) -> None:
        position = self._num_read
        self._num_read += 1
        if isinstance(row, BadRow):
            self._done[position] = row, failure(row, refused(row.error))
        elif error := self.suspects.verdict(row.digest):
            self._done[position] = row, failure(row, refused(error))
        else:
            self._open = Job(position, row, RowRequests(self.llm, row, self.options))

    def _has_begun(self, job: Job) -> bool:
        """Whether one of a row's requests is or was in flight, so that the others should follow."""
        return bool(job.outcomes) or any(job is other for other, _, _ in self._in_flight.values())

    def _submit(self, job: Job, index: int, request: Request) -> None:
        self._in_work.prepare(job.row.digest)
        try:
            self._computing.add_request(request)
        except L4Error as error:
            self._settle(job, index, refused(error))
            return
        finally:
            self._in_work.prepare(None)
        self._in_work.begin(job.row.digest)
        self._collector.begin(request)
        self._prefilling.add(request.id)
        self._in_flight[request.id] = job, index, request

    def _settle(self, job: Job, index: int, outcome: Outcome) -> None:
        job.outcomes[index] = outcome
        if job.is_done:
            self._in_work.end(job.row.digest)
            outcomes = [job.outcomes[n] for n in range(job.row.num_answers)]
            written = output(
                job.row,
                outcomes,
                self.llm.name,
                timings=self.options.timings,
                tagged=self.llm.tagged_text,
            )
            self._done[job.position] = job.row, written
            if job.asked:
                self._ahead.unpin(job.asked)

    def _time_out(self, limit: float, now: float) -> None:
        """Abort the rows that started more than `limit` seconds before `now`."""
        waiting = self._computing.waiting
        for id, (job, _, _) in self._in_flight.items():
            if job.began is None and id not in waiting:
                job.began = now
        late = {job for job, _, _ in self._in_flight.values() if job.is_late(limit, now)}
        for job in late:
            self._give_up(job, limit)

    def _give_up(self, job: Job, limit: float) -> None:
        """Abort a row's requests in flight, and settle all its unfinished requests as timed out."""
        if job is self._open:
            self._open = None
        self._pending = deque(item for item in self._pending if item[0] is not job)
        unfinished = {index for index in range(job.row.num_answers) if index not in job.outcomes}
        for id in [id for id, (owner, _, _) in self._in_flight.items() if owner is job]:
            _, index, _ = self._in_flight.pop(id)
            self._prefilling.discard(id)
            aborted = self._computing.abort(id)
            (completion,) = self._collector.feed([aborted] if aborted else [])
            unfinished.remove(index)
            self._settle(job, index, timed_out(limit, completion.text))
        for index in sorted(unfinished):
            self._settle(job, index, timed_out(limit, ""))
