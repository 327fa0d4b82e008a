"""Lets the rows of a batch run on the engine of a server, behind the requests of its clients."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue

from l4cli.batch.computing import Refused
from l4cli.engine.types import CompileAbortedError, Request, StepOutput
from l4cli.errors import EngineError, L4Error
from l4cli.serve.engine_thread import EngineThread, Event, Refusal, Taken

_TURN = 0.2  # seconds after which the caller may look whether it has to stop


class EngineGoneError(Exception):
    """The engine's thread has ended: nothing more is computed until the server starts again."""


class SharedEngine:
    """The engine's thread of a served model, as the runner of rows needs it. For one thread.

    engine: the thread. Its context is neither made nor replaced here.
    name: begins the ids of all requests, which must be unique among those of all clients.

    Requests run in the background: the engine admits them when no client's request waits. As many
    of them wait there as there are slots, so that no slot is empty while the next row is prepared.
    """

    is_sized = True

    def __init__(self, engine: EngineThread, name: str) -> None:
        self._engine, self._prefix = engine, f"{name}:"
        self._num_slots = engine.llm.engine.backend.n_seq_max
        self._events: SimpleQueue[Sequence[Event]] = SimpleQueue()
        self._requests: dict[str, Request] = {}  # in flight, by their ids there
        self._started: dict[str, float] = {}  # when they were queued; time.perf_counter()
        self._ttft: dict[str, float] = {}  # seconds to the first token of those that have one
        self._waiting: set[str] = set()  # the runner's ids of those without an output

    def __enter__(self) -> SharedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_room(self) -> bool:
        if not self._requests:
            return True
        return len(self._waiting) < self._num_slots and not self._engine.is_scoring

    @property
    def waiting(self) -> set[str]:
        return self._waiting

    def fit(self, requests: Sequence[Request], *, more: bool, pool: bool = False) -> None:
        """Do nothing: clients' requests are in the context."""

    def has_space_for(self, _request: Request) -> bool:
        return True  # the engine refuses what does not fit

    def add_request(self, request: Request) -> None:
        """Queue a request. Whether the engine refuses it, `step` says."""
        shared = replace(request, id=self._prefix + request.id, background=True)
        self._requests[shared.id] = shared
        self._started[shared.id] = time.perf_counter()
        self._waiting.add(request.id)
        self._engine.submit(shared, self)

    def step(self) -> Sequence[StepOutput | Refused]:
        """Wait for events of the requests in flight, and return what they are; maybe nothing.

        EngineGoneError if there will be no more.
        """
        return [found for event in self._next() for found in self._taken(event)]

    def abort(self, request_id: str) -> StepOutput | None:
        """End a request. What it has computed so far was returned by `step`."""
        if self._forget(self._prefix + request_id) is None:
            return None
        self._waiting.discard(request_id)
        self._engine.abort(self._prefix + request_id)
        return StepOutput(request_id, finish_reason="abort")

    def close(self) -> None:
        """Abort what is in flight; idempotent."""
        for request_id in [*self._requests]:
            self._engine.abort(request_id)
            self._forget(request_id)
        self._waiting.clear()

    def send(self, events: Sequence[Event]) -> None:
        """Take events from the engine's thread."""
        self._events.put(events)

    def _next(self) -> Iterator[Event]:
        """Wait for the next events, but not for long, and yield all that have come."""
        if self._engine.failure is not None:
            raise EngineGoneError(str(self._engine.failure))
        try:
            yield from self._events.get(timeout=_TURN)
            while True:
                yield from self._events.get_nowait()
        except Empty:
            return

    def _taken(self, event: Event) -> Iterator[StepOutput | Refused]:
        request = self._requests.get(event.request_id)
        if request is None or isinstance(event, Taken):
            return
        own_id = event.request_id.removeprefix(self._prefix)
        if isinstance(event, Refusal):
            yield from self._refused(own_id, request, event.error)
            return
        self._waiting.discard(own_id)
        self._count(event)
        if event.finish_reason:
            self._forget(event.request_id)
        yield event._replace(request_id=own_id)

    def _count(self, output: StepOutput) -> None:
        """Count an answer that ends, with the time to its first token, for /metrics."""
        now = time.perf_counter()
        ttft = self._ttft.setdefault(output.request_id, now - self._started[output.request_id])
        if output.finish_reason:
            self._engine.counts.rows.note(output.finish_reason, ttft)

    def _forget(self, request_id: str) -> Request | None:
        """Forget a request, by its id in the engine; None if it is not in flight."""
        self._started.pop(request_id, None)
        self._ttft.pop(request_id, None)
        return self._requests.pop(request_id, None)

    def _refused(self, own_id: str, request: Request, error: Exception) -> Iterator[Refused]:
        if self._engine.failure is not None:
            raise EngineGoneError(str(self._engine.failure))
        if isinstance(error, CompileAbortedError):  # something else was interrupted
            self._engine.submit(request, self)
            return
        self._forget(request.id)
        self._waiting.discard(own_id)
        yield Refused(own_id, error if isinstance(error, L4Error) else EngineError(str(error)))
