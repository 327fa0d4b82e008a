"""Asks the engine's thread from asyncio: events of requests arrive as they are computed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from l4cli.engine.types import Request, StepOutput, TokenLogprob
from l4cli.errors import L4Error
from l4cli.serve.engine_thread import EngineThread, Event, Refusal, Taken
from l4cli.serve.errors import ApiError, api_error
from l4cli.serve.limits import AskingLimits

_T = TypeVar("_T")


class Asking:
    """The requests of all HTTP clients. Use it from one event loop."""

    def __init__(self, engine: EngineThread, limits: AskingLimits) -> None:
        self.engine, self.limits = engine, limits
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, InFlight] = {}
        self._is_ended = False
        self._n_seq_max = engine.llm.engine.backend.n_seq_max
        # Encoding a prompt may take long, and must not keep the event loop from its work.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="l4-encoder")

    def send(self, events: Sequence[Event]) -> None:
        """Take events from the engine's thread."""
        self._loop.call_soon_threadsafe(self._deliver, events)

    async def encode(self, work: Callable[[], _T]) -> _T:
        """Do work that encodes prompts, in the thread for that. Raises what it raises."""
        return await self._loop.run_in_executor(self._encoder, work)

    def check_queue(self, count: int = 1) -> None:
        """Raise ApiError if so many more requests would have to wait behind too many others."""
        if self._is_ended:
            raise _stopped()
        if self.engine.failure is not None:
            raise ApiError(503, f"the engine has failed: {self.engine.failure}; restart l4 serve")
        waiting = len(self._open) + count - self._n_seq_max
        if waiting > max(self.limits.queue, count - self._n_seq_max):
            raise self.limits.full("requests")

    async def ask(self, requests: Sequence[Request], *, streams: bool) -> InFlight:
        """Give requests to the engine; ApiError if it refuses one. Close what is returned.

        streams: whether each output is wanted at once, not only when an answer has ended.
        """
        self.check_queue(len(requests))  # again: others have come while these were encoded
        in_flight = InFlight(self, requests, streams=streams)
        try:
            await in_flight.begin()
        except BaseException:
            in_flight.close()
            raise
        return in_flight

    async def score(self, tokens: Sequence[int], num_top: int) -> list[TokenLogprob]:
        """Return the logprobs of a text's tokens after the first.

        ContextOverflowError if it does not fit.
        """
        return await asyncio.wrap_future(self.engine.score(tokens, num_top))

    def open(self, request: Request, in_flight: InFlight) -> None:
        """Submit a request, and have its events put there."""
        self._open[request.id] = in_flight
        self.engine.submit(request, self)

    def drop(self, request_id: str) -> None:
        """Forget a request, and abort it if it has not ended."""
        if self._open.pop(request_id, None) is not None:
            self.engine.abort(request_id)

    def forget(self, request_id: str) -> None:
        """Forget a request that has ended."""
        self._open.pop(request_id, None)

    def timer(self, put: Callable[[ApiError], None]) -> asyncio.TimerHandle | None:
        """Have `put` called with an error when the time for a request is over."""
        if self.limits.seconds is None:
            return None
        late = self.limits.late("lower max_tokens")
        return self._loop.call_later(self.limits.seconds, put, late)

    def end(self) -> None:
        """End all requests, and refuse further ones, because the server stops."""
        self._is_ended = True
        for in_flight in {id(one): one for one in self._open.values()}.values():
            in_flight.put(_stopped())

    def _deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            if (in_flight := self._open.get(event.request_id)) is not None:
                in_flight.put(event)

    def close(self) -> None:
        self._encoder.shutdown(wait=False, cancel_futures=True)


class InFlight:
    """Requests that the engine works on together. It aborts what still runs when it is closed.

    streams: whether each output is wanted at once. Otherwise the reader is woken only when an
        answer has ended, which saves a change of tasks for each token.
    """

    def __init__(self, asking: Asking, requests: Sequence[Request], *, streams: bool) -> None:
        self._asking, self._requests, self._streams = asking, requests, streams
        self._events: deque[Event | ApiError] = deque()
        self._has_news = asyncio.Event()
        self._early: list[StepOutput] = []  # outputs that came before the last request was taken
        self._timer = asking.timer(self.put)

    def put(self, event: Event | ApiError) -> None:
        """Take an event of one of the requests, or an error that ends them all."""
        self._events.append(event)
        if self._streams or not isinstance(event, StepOutput) or event.finish_reason:
            self._has_news.set()

    async def begin(self) -> None:
        """Submit the requests, and wait until the engine has taken each; ApiError if not."""
        for request in self._requests:
            self._asking.open(request, self)
        waiting = {request.id for request in self._requests}
        while waiting:
            event = await self._next()
            if isinstance(event, Taken):
                waiting.discard(event.request_id)
            else:
                self._early.append(event)

    async def first(self) -> StepOutput:
        """Wait for the first output, which `outputs` yields as well."""
        while not self._early:
            event = await self._next()
            if not isinstance(event, Taken):
                self._early.append(event)
        return self._early[0]

    async def outputs(self) -> AsyncGenerator[StepOutput, None]:
        """Yield the outputs as they are computed. ApiError if they take longer than allowed."""
        num_left = len(self._requests)
        while num_left:
            event = self._early.pop(0) if self._early else await self._next()
            if isinstance(event, Taken):
                continue
            if event.finish_reason:
                num_left -= 1
                self._asking.forget(event.request_id)
            yield event

    async def _next(self) -> StepOutput | Taken:
        while not self._events:
            self._has_news.clear()
            await self._has_news.wait()
        event = self._events.popleft()
        if isinstance(event, ApiError):
            raise event
        if isinstance(event, Refusal):
            raise _refused(event.error)
        return event

    def close(self) -> None:
        """Abort what still runs; idempotent."""
        if self._timer:
            self._timer.cancel()
        for request in self._requests:
            self._asking.drop(request.id)


def _refused(error: Exception) -> ApiError:
    if isinstance(error, L4Error):
        return api_error(error)
    return ApiError(500, f"the request was not computed: {error}")


def _stopped() -> ApiError:
    return ApiError(503, "the server was stopped", code="server_stopped")
