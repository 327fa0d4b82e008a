"""The engine over a fake backend: the order in which it serves requests, and what it frees."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fakes import FakeBackend, prompt_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

from l4cli.engine.engine import Engine
from l4cli.engine.types import Request, SamplingParams
from l4cli.errors import ContextOverflowError, RequestError


def request(id: str, text: str, **params: object) -> Request:
    params.setdefault("max_tokens", 200)
    return Request(id, prompt_tokens(text), SamplingParams(**params))  # type: ignore[arg-type]


def answers(engine: Engine, requests: list[Request]) -> dict[str, str]:
    return {done.request_id: done.text for done in engine.generate(requests)}


def test_every_request_gets_its_own_answer() -> None:
    texts = {str(n): f"question {n}" for n in range(20)}
    engine = Engine(FakeBackend())
    done = answers(engine, [request(id, text) for id, text in texts.items()])
    assert done == {id: text.upper() for id, text in texts.items()}


def test_batch_equals_single() -> None:
    texts = [f"{'long ' * (n % 7)}row {n}" for n in range(30)]
    together = answers(
        Engine(FakeBackend(n_ctx=1024, n_seq_max=8)),
        [request(str(n), text) for n, text in enumerate(texts)],
    )
    for n, text in enumerate(texts):
        alone = answers(Engine(FakeBackend()), [request("x", text)])
        assert together[str(n)] == alone["x"]


def test_a_long_prompt_does_not_stall_those_who_decode() -> None:
    backend = FakeBackend(n_ctx=2048, n_batch=32)
    engine = Engine(backend)
    engine.add_request(request("short", "hello"))
    while not engine.step():
        pass
    engine.add_request(request("long", "x" * 1000))
    produced = [output.request_id for _ in range(3) for output in engine.step()]
    assert produced == ["short"] * 3


@pytest.mark.parametrize("unified", [True, False])
def test_requests_in_the_background_wait_for_all_others(unified: bool) -> None:
    engine = Engine(FakeBackend(n_ctx=1024, n_seq_max=2, unified=unified))
    for n in range(6):
        engine.add_request(replace(request(f"background {n}", f"row {n}"), background=True))
    engine.step()
    for n in range(4):
        engine.add_request(request(f"client {n}", f"question {n}"))
    ended: list[str] = []
    while len(ended) < 10:
        ended += [output.request_id for output in engine.step() if output.finish_reason]
    assert ended[:2] == ["background 0", "background 1"]  # they ran already
    assert ended[2:6] == [f"client {n}" for n in range(4)]
    assert sorted(ended[6:]) == [f"background {n}" for n in range(2, 6)]


def test_no_batch_exceeds_the_token_budget() -> None:
    backend = FakeBackend(n_batch=16)
    answers(Engine(backend), [request(str(n), "y" * 40) for n in range(6)])
    assert max(backend.batch_sizes) <= 16


def test_shared_prefix_is_computed_once() -> None:
    system = "You are a helpful assistant that always answers in capitals.\n"
    backend = FakeBackend(n_ctx=4096, n_seq_max=8)
    requests = [request(str(n), f"{system}question {n}") for n in range(8)]
    done = {c.request_id: c for c in Engine(backend).generate(requests)}
    cached = [done[str(n)].num_cached_tokens for n in range(8)]
    assert cached[0] == 0
    assert all(n >= len(system) for n in cached[1:])
    assert done["5"].text == "QUESTION 5"


def test_a_finished_prefix_is_reused_by_the_next_turn() -> None:
    backend = FakeBackend(n_seq_max=1)
    engine = Engine(backend)
    first = "a conversation that goes on\n"
    answers(engine, [request("1", first + "one")])
    before = backend.num_decoded_tokens
    (done,) = engine.generate([request("2", first + "two")])
    assert done.num_cached_tokens >= len(first)
    assert backend.num_decoded_tokens - before < len(first)
    assert done.text == "TWO"


def test_admission_reserves_the_whole_length() -> None:
    backend = FakeBackend(n_ctx=100, n_seq_max=4)
    engine = Engine(backend)
    for n in range(3):
        engine.add_request(request(str(n), f"{n}" * 20, max_tokens=30))
    engine.step()
    assert len(engine.scheduler.running) == 1
    assert [s.request.id for s in engine.scheduler.waiting] == ["1", "2"]


def test_what_can_never_fit_is_refused_with_its_numbers() -> None:
    engine = Engine(FakeBackend(n_ctx=64))
    with pytest.raises(ContextOverflowError, match=r"the prompt has 102 tokens.*holds 64"):
        engine.add_request(request("big", "z" * 100))
    with pytest.raises(ContextOverflowError, match=r"12 tokens and max_tokens 60 make 72"):
        engine.add_request(request("much", "z" * 10, max_tokens=60))
    assert engine.num_unfinished == 0


def test_duplicate_ids_and_empty_prompts_are_refused() -> None:
    engine = Engine(FakeBackend())
    engine.add_request(request("a", "b"))
    with pytest.raises(RequestError, match="already in flight"):
        engine.add_request(request("a", "c"))
    with pytest.raises(RequestError, match="empty"):
        engine.add_request(Request("e", ()))


def test_length_and_stop_are_told_apart() -> None:
    engine = Engine(FakeBackend())
    by_id = {
        c.request_id: c
        for c in engine.generate(
            [
                request("cut", "abcdef", max_tokens=3),
                request("exact", "abc", max_tokens=4),
                request("stopped", "one, two, three", stop=(", T",)),
            ]
        )
    }
    assert (by_id["cut"].text, by_id["cut"].finish_reason) == ("ABC", "length")
    assert (by_id["exact"].text, by_id["exact"].finish_reason) == ("ABC", "stop")
    assert (by_id["stopped"].text, by_id["stopped"].finish_reason) == ("ONE", "stop")
    assert (by_id["exact"].stopped_by, by_id["stopped"].stopped_by) == (None, ", T")


def test_a_failing_sequence_leaves_its_neighbours_unharmed() -> None:
    backend = FakeBackend()
    backend.fail_on = ord("!")
    done = {
        c.request_id: c
        for c in Engine(backend).generate(
            [request("good", "fine"), request("bad", "boom!"), request("other", "well")]
        )
    }
    assert done["bad"].finish_reason == "error"
    assert "code -3" in (done["bad"].error or "")
    assert (done["good"].text, done["other"].text) == ("FINE", "WELL")


def test_an_interrupted_step_loses_nothing() -> None:
    backend = FakeBackend()
    engine = Engine(backend)
    engine.add_request(request("a", "go on"))
    text = ""
    while engine.num_unfinished:
        engine.interrupt()
        assert engine.step() == []
        text += "".join(output.text for output in engine.step())
    assert text == "GO ON"


def test_leaving_a_stream_aborts_its_request() -> None:
    engine = Engine(FakeBackend())
    for output in engine.stream(request("a", "a long answer")):
        if output.text == "L":
            break
    assert engine.num_unfinished == 0


def test_generate_reads_lazily() -> None:
    backend = FakeBackend(n_seq_max=2)
    taken = []

    def source():  # type: ignore[no-untyped-def]
        for n in range(1000):
            taken.append(n)
            yield request(str(n), "hi")

    stream = Engine(backend).generate(source())
    next(stream)
    assert len(taken) < 10


def test_close_frees_samplers_of_unfinished_requests() -> None:
    backend = FakeBackend()
    with Engine(backend) as engine:
        engine.add_request(request("a", "b"))
        assert backend.num_open_samplers == 1
    assert backend.num_open_samplers == 0
    assert backend.closed


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.text("ab\n", min_size=1, max_size=60), st.integers(1, 60)),
            st.tuples(st.just("abort"), st.integers(0, 30), st.none()),
            st.tuples(st.just("step"), st.integers(1, 8), st.none()),
            st.tuples(st.just("interrupt"), st.none(), st.none()),
        ),
        max_size=60,
    ),
    n_seq_max=st.integers(1, 5),
    max_retained=st.integers(0, 5),
)
def test_slots_and_cells_never_leak(steps, n_seq_max, max_retained) -> None:  # type: ignore[no-untyped-def]
    """After random adds, aborts, steps and interrupts, nothing leaks and all answers are right."""
    backend = FakeBackend(n_ctx=128, n_batch=16, n_seq_max=n_seq_max)
    engine = Engine(backend, max_retained=min(max_retained, n_seq_max))
    texts: dict[str, str] = {}
    prompts: dict[str, str] = {}
    finished: dict[str, str] = {}
    added = 0

    def collect() -> None:
        for output in engine.step():
            texts[output.request_id] = texts.get(output.request_id, "") + output.text
            if output.finish_reason:
                finished[output.request_id] = output.finish_reason

    for kind, value, extra in steps:
        if kind == "add":
            prompts[str(added)] = value
            engine.add_request(request(str(added), value, max_tokens=extra))
            added += 1
        elif kind == "abort":
            engine.abort(str(value))
        elif kind == "interrupt":
            engine.interrupt()
        else:
            for _ in range(value):
                collect()
        assert engine.scheduler.ledger.used <= backend.n_ctx
    for _ in range(10_000):
        if not engine.num_unfinished:
            break
        collect()
    assert engine.num_unfinished == 0
    for id, reason in finished.items():
        expected = (prompts[id].splitlines() or [""])[-1].upper()
        assert texts.get(id, "") == expected if reason == "stop" else expected.startswith(texts[id])
    engine.scheduler.forget()
    assert engine.scheduler.ledger.used == 0
    assert backend.num_used_cells() == 0
    assert backend.num_open_samplers == 0
    assert sorted(engine.scheduler._free_ids) == list(range(n_seq_max))


def test_sequences_beyond_the_limit_pause_and_go_on() -> None:
    engine = Engine(FakeBackend(n_seq_max=4, n_batch=256))
    for n in range(4):
        engine.add_request(request(str(n), f"row {n}"))
    texts = dict.fromkeys("0123", "")

    def step() -> set[str]:
        outputs = engine.step()
        for output in outputs:
            texts[output.request_id] += output.text
        return {output.request_id for output in outputs}

    engine.scheduler.max_running = 4
    assert step() == set("0123")
    engine.scheduler.max_running = 2
    assert step() == set("01")
    engine.scheduler.max_running = 4
    assert step() == set("0123")
    while engine.num_unfinished:
        step()
    assert texts == {str(n): f"ROW {n}" for n in range(4)}


def test_prompts_of_like_lengths_are_computed_in_like_pieces() -> None:
    """Their uneven ends are computed with the decodes, and the answers stay the same."""
    backend = FakeBackend(n_seq_max=4, n_batch=256, unified=False)
    engine = Engine(backend)
    requests = [request(str(n), f"{n} {'x' * (30 + n)}") for n in range(4)]
    done = answers(engine, requests)
    assert done == {str(n): f"{n} {'X' * (30 + n)}" for n in range(4)}
    assert backend.batch_sizes[0] == 4 * len(requests[0].prompt)
    assert max(backend.batch_sizes[1:]) == 4


@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=12))
@settings(deadline=None, max_examples=50)
def test_parts_of_their_own_change_no_answer(lengths: list[int]) -> None:
    backend = FakeBackend(n_ctx=2048, n_seq_max=4, n_batch=64, unified=False)
    texts = {str(n): f"{n} {'x' * length}" for n, length in enumerate(lengths)}
    done = answers(Engine(backend), [request(id, text) for id, text in texts.items()])
    assert done == {id: text.upper() for id, text in texts.items()}


def test_generate_for_asyncio_leaves_the_loop_free() -> None:
    engine = Engine(FakeBackend())
    texts = {str(n): f"question {n}" for n in range(12)}
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def gather() -> dict[str, str]:
        ticking = asyncio.create_task(tick())
        requests = (request(id, text) for id, text in texts.items())
        done = {c.request_id: c.text async for c in engine.agenerate(requests)}
        ticking.cancel()
        return done

    assert asyncio.run(gather()) == {id: text.upper() for id, text in texts.items()}
    assert ticks > 12


def test_leaving_asyncio_early_aborts_what_runs() -> None:
    backend = FakeBackend()
    engine = Engine(backend)

    async def first() -> str:
        completions = engine.agenerate(request(str(n), f"question {n}") for n in range(12))
        async for done in completions:
            await completions.aclose()
            return done.text
        return ""

    assert asyncio.run(first()).startswith("QUESTION")
    assert (engine.num_unfinished, backend.num_open_samplers) == (0, 0)
