"""Rows on an engine that clients use, too: refusals, and an engine that fails."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from l4cli.batch.computing import Refused
from l4cli.engine.types import CompileAbortedError, Request, StepOutput
from l4cli.errors import EngineError, RequestError
from l4cli.serve.batches.sharing import EngineGoneError, SharedEngine
from l4cli.serve.counting import Counts
from l4cli.serve.engine_thread import Outlet, Refusal, Taken


class FakeThread:
    """An engine's thread that notes what it is asked for."""

    def __init__(self) -> None:
        backend = SimpleNamespace(n_seq_max=2)
        self.llm = SimpleNamespace(engine=SimpleNamespace(backend=backend))
        self.failure: Exception | None = None
        self.is_scoring = False
        self.counts = Counts()
        self.asked: list[Request] = []
        self.aborted: list[str] = []

    def submit(self, request: Request, _outlet: Outlet) -> None:
        self.asked.append(request)

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)


@pytest.fixture
def thread() -> FakeThread:
    return FakeThread()


@pytest.fixture
def shared(thread: FakeThread) -> SharedEngine:
    engine: Any = thread
    return SharedEngine(engine, "batch_1")


def test_ids_are_the_batchs_own_and_requests_in_the_background(
    thread: FakeThread, shared: SharedEngine
) -> None:
    shared.add_request(Request("0/0", (1,)))
    (asked,) = thread.asked
    assert (asked.id, asked.background) == ("batch_1:0/0", True)
    shared.send([Taken(asked.id), StepOutput(asked.id, "text", (1,))])
    assert shared.step() == [StepOutput("0/0", "text", (1,))]
    shared.close()
    assert thread.aborted == ["batch_1:0/0"]


def test_as_many_wait_as_there_are_slots_and_fewer_while_a_text_is_scored(
    thread: FakeThread, shared: SharedEngine
) -> None:
    for number in range(2):
        assert shared.has_room
        shared.add_request(Request(str(number), (1,)))
    assert not shared.has_room
    shared.send([StepOutput("batch_1:0", "text", (1,))])
    shared.step()
    assert shared.has_room
    thread.is_scoring = True
    assert not shared.has_room


def test_a_refusal_is_the_rows_and_an_interrupted_one_is_asked_again(
    thread: FakeThread, shared: SharedEngine
) -> None:
    shared.add_request(Request("0", (1,)))
    shared.send([Refusal("batch_1:0", CompileAbortedError())])
    assert shared.step() == []
    assert [asked.id for asked in thread.asked] == ["batch_1:0"] * 2
    error = RequestError("too long")
    shared.send([Refusal("batch_1:0", error)])
    assert shared.step() == [Refused("0", error)]
    assert shared.has_room


def test_an_engine_that_fails_makes_no_error_rows(thread: FakeThread, shared: SharedEngine) -> None:
    shared.add_request(Request("0", (1,)))
    thread.failure = EngineError("out of memory")
    shared.send([Refusal("batch_1:0", thread.failure)])
    with pytest.raises(EngineGoneError):
        shared.step()


def test_answers_are_counted_by_how_they_end(thread: FakeThread, shared: SharedEngine) -> None:
    for number in range(3):
        shared.add_request(Request(str(number), (1,)))
    shared.send([StepOutput("batch_1:0", "a", (1,)), StepOutput("batch_1:1", "a", (1,))])
    shared.step()
    shared.send([StepOutput("batch_1:0", finish_reason="stop")])
    shared.send([Refusal("batch_1:2", RequestError("too long"))])  # nothing was answered
    shared.step()
    shared.abort("1")
    ends = thread.counts.rows
    assert ends.reasons == {"stop": 1}
    assert sum(ends.ttft.counts) == 1
    assert thread.counts.clients.reasons == {}
