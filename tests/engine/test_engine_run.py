"""The loop around the engine's steps, and the answers made from its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import chain

import pytest
from fakes import FakeBackend, prompt_tokens

from l4cli.engine.answer import Answer
from l4cli.engine.engine import Engine, Progress
from l4cli.engine.types import Request, SamplingParams, StepOutput
from l4cli.errors import ContextOverflowError


def request(id: str, text: str, max_tokens: int = 200) -> Request:
    return Request(id, prompt_tokens(text), SamplingParams(max_tokens=max_tokens))


def texts(steps: Iterator[list[StepOutput]]) -> dict[str, str]:
    answers: dict[str, Answer] = {}
    for outputs in steps:
        for output in outputs:
            answers.setdefault(output.request_id, Answer()).take(output, 1.0)
    assert all(answer.has_ended for answer in answers.values())
    return {id: answer.text for id, answer in answers.items()}


def test_requests_are_read_lazily_and_all_are_answered() -> None:
    read: list[str] = []

    def source() -> Iterator[Request]:
        for n in range(40):
            read.append(str(n))
            yield request(str(n), f"row {n}")

    engine = Engine(FakeBackend())
    steps = engine.run(source())
    first = next(steps)
    assert len(read) < 10
    assert texts(chain([first], steps)) == {str(n): f"ROW {n}" for n in range(40)}
    assert engine.num_unfinished == 0


def test_others_requests_in_flight_are_left_alone() -> None:
    engine = Engine(FakeBackend())
    engine.add_request(request("other", "another one's"))
    assert texts(engine.run([request("mine", "mine")])) == {"mine": "MINE"}


def test_once_it_is_to_stop_what_runs_is_aborted_with_what_there_is_of_it() -> None:
    engine, steps_done = Engine(FakeBackend()), 0

    def stopping() -> bool:
        return steps_done >= 4

    answers = {id: Answer() for id in ("a", "b")}
    for outputs in engine.run([request(id, "a long one") for id in answers], stopping=stopping):
        steps_done += 1
        for output in outputs:
            answers[output.request_id].take(output, 1.0)
    assert engine.num_unfinished == 0
    for answer in answers.values():
        assert answer.finish_reason == "abort"
        assert answer.has_ended
        assert "A LONG ONE".startswith(answer.text)
        assert 0 < len(answer.text) < 10


def test_leaving_the_loop_leaves_nothing_in_the_engine() -> None:
    backend = FakeBackend()
    engine = Engine(backend)
    with closing(engine.run([request("a", "a long one")])) as steps:
        next(steps)
        assert engine.num_unfinished == 1
    assert (engine.num_unfinished, backend.num_open_samplers) == (0, 0)


def test_what_cannot_be_served_is_raised_or_is_an_answer_of_its_own() -> None:
    requests = [request("a", "one"), request("huge", "x" * 5000), request("b", "two")]
    engine = Engine(FakeBackend())
    with pytest.raises(ContextOverflowError):
        list(engine.run(requests))
    assert engine.num_unfinished == 0
    refusals: list[tuple[str, str]] = []
    steps = engine.run(
        requests, on_refused=lambda one, error: refusals.append((one.id, str(error)))
    )
    assert texts(steps) == {"a": "ONE", "b": "TWO"}
    ((id, why),) = refusals
    assert id == "huge"
    assert "tokens" in why


def test_two_requests_of_one_id_are_a_refusal_and_an_answer() -> None:
    done = list(Engine(FakeBackend()).generate([request("a", "one"), request("a", "two")]))
    assert sorted(one.finish_reason for one in done) == ["error", "stop"]
    assert [one.text for one in done if one.finish_reason == "stop"] == ["ONE"]


def test_a_request_that_somebody_else_aborts_ends_the_loop() -> None:
    engine = Engine(FakeBackend())
    for output in engine.stream(request("a", "a long one")):
        engine.abort(output.request_id)
    assert engine.num_unfinished == 0


def test_two_streams_side_by_side_both_end() -> None:
    engine = Engine(FakeBackend())
    first, second = (engine.stream(request(id, f"question {id}")) for id in ("a", "b"))
    next(first)
    assert "".join(output.text for output in second) == "QUESTION B"
    list(first)
    assert engine.num_unfinished == 0


def test_it_waits_its_turn_behind_others_requests() -> None:
    engine = Engine(FakeBackend(n_seq_max=1))
    for id in ("x", "y"):
        engine.add_request(request(id, f"other {id}"))
    assert "".join(output.text for output in engine.stream(request("a", "mine"))) == "MINE"


def test_it_tells_what_waits_and_how_far_it_is() -> None:
    engine = Engine(FakeBackend(n_batch=8, n_seq_max=1))
    engine.add_request(request("a", "x" * 30))
    engine.add_request(request("b", "y"))
    assert engine.progress == Progress()
    engine.step()
    assert engine.waiting == {"b"}
    assert engine.progress == Progress(8, 0, len(prompt_tokens("x" * 30)))


def test_a_character_that_was_cut_short_is_no_part_of_an_answer() -> None:
    pieces = {1: b"h", 2: "é".encode()[:1]}
    answer = Answer()
    answer.take(StepOutput("a", "h", (1,)), 0.5)
    answer.take(StepOutput("a", "\ufffd", (2,), "length", 3, 1, 2), 1.0)
    answer.drop_half_character(pieces.__getitem__)
    assert (answer.text, answer.token_ids) == ("h", [1])
    assert (answer.ttft, answer.seconds, answer.num_computed_tokens) == (0.5, 1.0, 2)
    # A replacement character that the model itself wrote stays.
    whole = Answer()
    whole.take(StepOutput("a", "\ufffd", (5,), "stop"), 1.0)
    assert whole.text == "\ufffd"


def test_several_answers_to_a_prompt_have_seeds_of_their_own() -> None:
    params = SamplingParams(seed=2**32 - 3)
    assert [params.varied(n).seed for n in range(3)] == [2**32 - 3, 2**32 - 2, 0]
    assert SamplingParams().varied(3).seed is None
