"""Rows through the engine: slots kept full, one line a row.

    rows -> requests -> engine -> outcomes -> reorder window -> output rows

Everything is lazy: requests are made when a slot could use them, also those of one row, and at
most `window` finished rows wait for one before them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from l4cli.batch.outcomes import Outcome, judged, refused, timed_out
from l4cli.batch.outputs import failure, has_failed, output
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.stats import BatchStats, is_first
from l4cli.engine.completion import Collector
from l4cli.engine.types import Completion, Request, StepOutput
from l4cli.errors import L4Error
from l4cli.llm import LLM
from l4cli.prompt.template import Message

DEFAULT_MAX_TOKENS = 1024
LOOK_AHEAD = 256
_NUM_SEEDS = 2**32 - 1
_OnAnswer = Callable[[Row, Request, Completion], None]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What applies to every row that does not say otherwise.

    `unordered` gives rows out as they finish; `row_timeout` is in seconds from when the first of
    a row's requests begins to run. A context that fits the rows is made for the `look_ahead`
    requests that come next: 1 where rows may be long in coming.
    """

    system: str | None = None
    raw: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    window: int = 1024
    unordered: bool = False
    row_timeout: float | None = None
    timings: bool = True
    look_ahead: int = LOOK_AHEAD


@dataclass(slots=True, eq=False)
class _Job:
    """A row on its way: the outcomes of its requests as they come in."""

    position: int
    row: Row
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    num_asked: int = 0
    request: Request | None = None  # the first one: the others differ by their seeds
    began: float | None = None

    @property
    def is_done(self) -> bool:
        return len(self.outcomes) == self.row.num_answers


def run_rows(
    llm: LLM,
    rows: Iterable[Row | BadRow],
    options: BatchOptions,
    stats: BatchStats,
    stopping: Callable[[], int] = lambda: 0,
    on_step: Callable[[], None] = lambda: None,
    on_answer: _OnAnswer = lambda _row, _request, _completion: None,
) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
    """Rows with their output, in input order unless `unordered`; a bad row has an error row.

    Once `stopping` gives 1 no further row is read and those in flight are finished; from 2 on they
    are given up too. `on_step` is called after each step of the engine, `on_answer` with each
    request that went well, as it finishes.
    """
    batch = _Batch(llm, options, stats, on_answer)
    source = iter(rows)
    while stopping() < 2:
        batch.fill(source, stopping)
        yield from batch.ready()
        if batch.is_idle:
            return
        batch.step()
        on_step()
    yield from batch.ready()


def request_for(llm: LLM, row: Row, index: int, options: BatchOptions) -> Request:
    """The request for the `index`-th answer of a row; its id is the caller's to set.

    Several answers to one prompt have the row's seed, its successor, and so on. Raises L4Error
    where it cannot be served.
    """
    prompt, raw = _prompt(row, index, options)
    request = llm.request(
        prompt,
        tools=row.tools,
        raw=raw,
        default_max_tokens=DEFAULT_MAX_TOKENS,
        **{**options.sampling, **row.sampling},
    )
    return request if row.document else _with_seed(request, index)


class _Batch:
    """Rows in flight, and the reorder window: answers wait until all before them are out."""

    def __init__(
        self, llm: LLM, options: BatchOptions, stats: BatchStats, on_answer: _OnAnswer
    ) -> None:
        self.llm, self.options, self.stats, self.on_answer = llm, options, stats, on_answer
        self._collector = Collector()
        self._in_flight: dict[str, tuple[_Job, int, Request]] = {}
        self._prefilling: set[str] = set()  # requests without a token yet, waiting ones included
        self._open: _Job | None = None  # the row whose requests are not all made yet
        self._pending: deque[tuple[_Job, int, Request]] = deque()  # made, not yet in flight
        self._done: dict[int, tuple[Row | BadRow, dict[str, Any]]] = {}
        self._num_read = 0
        self._num_written = 0
        self._exhausted = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do."""
        waiting = self._in_flight or self._pending or self._open or self._done
        return self._exhausted and not waiting

    @property
    def has_room(self) -> bool:
        return self.llm.engine.has_room and len(self._done) < self.options.window

    def fill(self, source: Iterator[Row | BadRow], stopping: Callable[[], int]) -> None:
        """Give the engine requests, of the row at hand and then of the next, while it has room."""
        if stopping():
            self._drop_unbegun()
        if not self.llm.is_sized:
            self._resize(source, stopping)
        while self.has_room and self._make_pending(1, source, stopping):
            if self.llm.has_space_for(self._pending[0][2]):
                self._submit(*self._pending.popleft())
            elif self._in_flight:
                return  # a longer context can be made when these have ended
            else:
                self._resize(source, stopping)

    def _drop_unbegun(self) -> None:
        """Forget the rows that were only read ahead, and what was to come out behind them."""
        begun = {job.position for job, _, _ in self._in_flight.values()}
        dropped = [job.position for job, index, _ in self._pending if index == 0]
        dropped = [position for position in dropped if position not in begun]
        if not dropped:
            return
        self._pending = deque(item for item in self._pending if item[0].position not in dropped)
        if self._open and self._open.position in dropped:
            self._open = None
        if not self.options.unordered:
            for position in [done for done in self._done if done > min(dropped)]:
                del self._done[position]

    def _resize(self, source: Iterator[Row | BadRow], stopping: Callable[[], int]) -> None:
        """Make a context that fits the requests that come next."""
        self._make_pending(self.options.look_ahead, source, stopping)
        self.llm.fit([request for _, _, request in self._pending], more=not self._exhausted)

    def _make_pending(
        self, count: int, source: Iterator[Row | BadRow], stopping: Callable[[], int]
    ) -> bool:
        """Have `count` requests ready, as far as there are any; whether there is one."""
        while len(self._pending) < count and len(self._done) < self.options.window:
            if self._open:
                self._ask(self._open)
            elif stopping() or (row := next(source, None)) is None:
                self._exhausted = True
                break
            else:
                self._take(row)
        return bool(self._pending)

    def step(self) -> None:
        """One step of the engine, and what it brought to an end."""
        started = time.perf_counter()
        outputs = self.llm.engine.step()
        self._count(outputs, time.perf_counter() - started)
        for completion in self._collector.feed(outputs):
            job, index, request = self._in_flight.pop(completion.request_id)
            outcome = judged(completion, request.params)
            if isinstance(outcome, Completion):
                self.on_answer(job.row, request, outcome)
            self._settle(job, index, outcome)
        if self.options.row_timeout is not None:
            self._time_out(self.options.row_timeout, time.monotonic())

    def _count(self, outputs: Sequence[StepOutput], seconds: float) -> None:
        self._prefilling.difference_update(one.request_id for one in outputs if is_first(one))
        has_prefill = not self._prefilling <= self._waiting()
        self.stats.count_step(outputs, seconds, has_prefill=has_prefill)

    def _waiting(self) -> set[str]:
        """The requests in flight that do not run yet."""
        return {sequence.request.id for sequence in self.llm.engine.scheduler.waiting}

    def ready(self) -> Iterator[tuple[Row | BadRow, dict[str, Any]]]:
        """Answers that nothing before them holds back any more."""
        while self._done:
            position = next(iter(self._done)) if self.options.unordered else self._num_written
            if position not in self._done:
                return
            row, written = self._done.pop(position)
            self._num_written += 1
            self.stats.num_rows += 1
            self.stats.num_errors += has_failed(written)
            yield row, written

    def _take(self, row: Row | BadRow) -> None:
        position = self._num_read
        self._num_read += 1
        if isinstance(row, BadRow):
            self._done[position] = row, failure(row, refused(row.error))
        else:
            self._open = _Job(position, row)

    def _ask(self, job: _Job) -> None:
        """Make the next request of a row."""
        index = job.num_asked
        job.num_asked += 1
        if job.num_asked == job.row.num_answers:
            self._open = None
        try:
            request = replace(self._request(job, index), id=f"{job.position}/{index}")
        except L4Error as error:
            self._settle(job, index, refused(error))
            return
        self._pending.append((job, index, request))

    def _submit(self, job: _Job, index: int, request: Request) -> None:
        try:
            self.llm.engine.add_request(request)
        except L4Error as error:
            self._settle(job, index, refused(error))
            return
        self._collector.begin(request)
        self._prefilling.add(request.id)
        self._in_flight[request.id] = job, index, request

    def _request(self, job: _Job, index: int) -> Request:
        if job.row.document:
            return request_for(self.llm, job.row, index, self.options)
        if job.request is None:
            job.request = request_for(self.llm, job.row, 0, self.options)
        return _with_seed(job.request, index)

    def _settle(self, job: _Job, index: int, outcome: Outcome) -> None:
        job.outcomes[index] = outcome
        if job.is_done:
            outcomes = [job.outcomes[n] for n in range(job.row.num_answers)]
            written = output(job.row, outcomes, self.llm.name, timings=self.options.timings)
            self._done[job.position] = job.row, written

    def _time_out(self, limit: float, now: float) -> None:
        """Abort the rows that began more than `limit` seconds ago."""
        waiting = self._waiting()
        for id, (job, _, _) in self._in_flight.items():
            if job.began is None and id not in waiting:
                job.began = now
        late = {job for job, _, _ in self._in_flight.values() if _is_late(job, limit, now)}
        for job in late:
            self._give_up(job, limit)

    def _give_up(self, job: _Job, limit: float) -> None:
        """Abort what runs of a row, and leave the rest of it undone."""
        if job is self._open:
            self._open = None
        self._pending = deque(item for item in self._pending if item[0] is not job)
        unfinished = {index for index in range(job.row.num_answers) if index not in job.outcomes}
        for id in [id for id, (owner, _, _) in self._in_flight.items() if owner is job]:
            _, index, _ = self._in_flight.pop(id)
            self._prefilling.discard(id)
            aborted = self.llm.engine.abort(id)
            (completion,) = self._collector.feed([aborted] if aborted else [])
            unfinished.remove(index)
            self._settle(job, index, timed_out(limit, completion.text))
        for index in sorted(unfinished):
            self._settle(job, index, timed_out(limit, ""))


def _is_late(job: _Job, limit: float, now: float) -> bool:
    return job.began is not None and now - job.began > limit


def _with_seed(request: Request, index: int) -> Request:
    """The request for another answer to the same prompt."""
    if not index or request.params.seed is None:
        return request
    seed = (request.params.seed + index) % _NUM_SEEDS
    return replace(request, params=replace(request.params, seed=seed))


def _prompt(row: Row, index: int, options: BatchOptions) -> tuple[Any, bool]:
    """What a row's request shows the model, and whether it is a text to be continued."""
    if row.prompt is not None and (options.raw or row.dialect == "completions"):
        return row.prompt, True
    if row.messages is not None:
        messages: list[Message] = list(row.messages)
    else:
        content = row.document.prompt(index) if row.document else row.prompt
        messages = [{"role": "user", "content": content}]
    if options.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": options.system}, *messages]
    return messages, False
