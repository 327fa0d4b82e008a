"""Runs the engine of a model in a thread of its own, for requests from any thread.

    HTTP handlers, batch jobs --submit--> inbox -> engine.step() -> outlets --> whoever asked

Only this thread uses the engine and its context. Encoding prompts and compiling constraints, which
may be slow, is done elsewhere, before `submit`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from l4cli.engine.scoring import NoRoomError
from l4cli.engine.types import CompileAbortedError, Request, StepOutput, TokenLogprob
from l4cli.errors import ContextOverflowError, EngineError, RequestError
from l4cli.loading.llm import LLM
from l4cli.serve.counting import Counts
from l4cli.serve.inbox import Inbox
from l4cli.serve.scoring import Scoring

# Tokens: of a prompt that is looked for on disk, or that were computed and are kept there. Fewer
# are computed about as fast as a file is written.
_WORTH_KEEPING = 512


class Refusal(NamedTuple):
    """A request that the engine did not take."""

    request_id: str
    error: Exception


class Taken(NamedTuple):
    """A request that the engine has queued: it will be computed."""

    request_id: str


Event = StepOutput | Refusal | Taken


class Outlet(Protocol):
    """Takes the events of requests, in the engine's thread. It must return soon."""

    def send(self, events: Sequence[Event]) -> None: ...


@dataclass(slots=True)
class _Asked:
    request: Request
    outlet: Outlet


class EngineThread:
    """The engine's thread. `start` it, and `close` it before the model.

    llm: a model with a context that is not replaced.
    counts: what is counted, for /metrics.
    """

    def __init__(self, llm: LLM, counts: Counts) -> None:
        self.llm, self.counts = llm, counts
        self.failure: Exception | None = None  # why the thread has ended, if it was a fault
        self._inbox = Inbox()
        self._asked: dict[str, _Asked] = {}
        self._scorings: deque[Scoring] = deque()
        self._thread = threading.Thread(target=self._run, name="l4-engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, request: Request, outlet: Outlet) -> None:
        """Queue a request. Its events go to the outlet: a Refusal, or Taken and the outputs."""
        if self.failure is not None:
            outlet.send([self._lost(request.id)])
            return
        self.counts.num_waiting += 1
        self._inbox.put(lambda: self._add(request, outlet))

    def abort(self, request_id: str) -> None:
        """End a request within a step, without a last event."""
        self._inbox.put(lambda: self._abort(request_id))

    def score(self, tokens: Sequence[int], num_top: int) -> Future[list[TokenLogprob]]:
        """Compute the logprobs of a text's tokens after the first: see `engine.score`."""
        scoring = Scoring(tokens, num_top)
        self._inbox.put(lambda: self._scorings.append(scoring))
        return scoring.future

    @property
    def is_scoring(self) -> bool:
        """Whether texts wait to be scored."""
        return bool(self._scorings)

    def close(self) -> None:
        """End the thread. Requests in flight get no further events."""
        self._inbox.close()
        self.llm.interrupt()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._inbox.is_closed:
                self._inbox.take(waits=not (self._asked or self._scorings))
                if not self._inbox.is_closed:
                    self._score_some()
                    self._send(self.llm.engine.step())
        except Exception as error:  # the backend is unusable, or this is a bug: say so to all
            self.failure = error
            self._fail()
            raise
        finally:
            for request_id in list(self._asked):
                self.llm.engine.abort(request_id)

    def _add(self, request: Request, outlet: Outlet) -> None:
        try:
            if len(request.prompt) >= _WORTH_KEEPING:
                self.llm.recall(request.prompt)
            self.llm.engine.add_request(request)
        except (RequestError, EngineError, CompileAbortedError) as error:
            self.counts.num_waiting -= 1
            outlet.send([Refusal(request.id, error)])
            return
        self._asked[request.id] = _Asked(request, outlet)
        outlet.send([Taken(request.id)])

    def _score_some(self) -> None:
        """Score the next piece of a text. Then those who wait for tokens have their turn."""
        if not self._scorings:
            return
        scoring = self._scorings[0]
        try:
            is_done = scoring.advance(self.llm.engine)
        except NoRoomError:
            if self._asked:
                return  # there may be room when they have ended
            is_done = scoring.fail(ContextOverflowError("the KV cache has no room for the prompt"))
        except (RequestError, EngineError) as error:
            is_done = scoring.fail(error)
        if is_done:
            self._scorings.popleft()

    def _abort(self, request_id: str) -> None:
        if self._asked.pop(request_id, None):
            self.llm.engine.abort(request_id)
            self.counts.num_waiting = len(self.llm.engine.waiting)

    def _send(self, outputs: Sequence[StepOutput]) -> None:
        """Give each output to whoever asked, all outputs of one outlet together."""
        by_outlet: dict[int, tuple[Outlet, list[Event]]] = {}
        new: list[Request] = []  # those that have ended, and had much to compute
        for output in outputs:
            asked = self._asked.get(output.request_id)
            if asked is None:
                continue
            by_outlet.setdefault(id(asked.outlet), (asked.outlet, []))[1].append(output)
            self.counts.count(output)
            if output.finish_reason:
                del self._asked[output.request_id]
                if output.num_prompt_tokens - output.num_cached_tokens >= _WORTH_KEEPING:
                    new.append(asked.request)
        for outlet, events in by_outlet.values():
            outlet.send(events)
        for request in new:
            self._keep(request)
        self.counts.num_waiting = len(self.llm.engine.scheduler.waiting)
        self.counts.num_running = len(self.llm.engine.scheduler.running)

    def _keep(self, request: Request) -> None:
        """Save a long prompt to the reading cache, if no request has to wait for that."""
        if not self._asked:
            self.llm.remember(request.prompt)

    def _fail(self) -> None:
        """Tell all who wait that nothing comes any more."""
        for request_id, asked in self._asked.items():
            asked.outlet.send([self._lost(request_id)])
        for scoring in self._scorings:
            scoring.fail(self._lost("").error)

    def _lost(self, request_id: str) -> Refusal:
        return Refusal(request_id, EngineError(f"the engine has failed: {self.failure}"))
