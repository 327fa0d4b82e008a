"""Prompts in one context, answers in another: the text is that of a single context."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow_but

from l4cli import load
from l4cli.engine.completion import Collector
from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import DisaggregatedBackend, LlamaBackend, LlamaModel
from l4cli.engine.types import (
    BatchItem,
    Completion,
    DecodeAbortedError,
    Request,
    SamplingParams,
)
from l4cli.errors import ModelLoadError
from l4cli.loading.decision import Decision

PART = 512  # tokens of each sequence's region


@pytest.fixture
def made(model: LlamaModel) -> Iterator[Any]:
    """A function that makes pairs of contexts for `n_seq_max` sequences."""
    backends = []

    def make(
        n_seq_max: int,
        pool: int = 4096,
        part: int = PART,
        kv_type: str = "f16",
        n_batch: int = 2048,
    ) -> DisaggregatedBackend:
        decode = LlamaBackend(
            model, n_ctx=n_seq_max * part, n_seq_max=n_seq_max, n_batch=n_batch, unified=False,
            kv_type=kv_type,
        )  # fmt: skip

        def make_prefill() -> LlamaBackend:
            return LlamaBackend(
                model, n_ctx=pool, n_seq_max=n_seq_max, n_batch=n_batch, n_ubatch=n_batch,
                along_with=decode, kv_type=kv_type,
            )  # fmt: skip

        backends.append(DisaggregatedBackend(decode, make_prefill))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()


def words(model: LlamaModel, n: int, length: int) -> list[int]:
    return (model.tokenize(f"{n} the world and hello {'ing ' * (n % 7)}") * length)[:length]


def greedy(id: str, prompt: list[int], max_tokens: int = 12) -> Request:
    params = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True, logprobs=2)
    return Request(id, tuple(prompt), params)


def answers(backend: Any, requests: list[Request]) -> dict[str, Completion]:
    with Engine(backend) as engine:
        return {done.request_id: done for done in engine.generate(requests)}


def assert_alike(found: dict[str, Completion], expected: dict[str, Completion]) -> None:
    """Logprobs are equal except for rounding, which may decide between equally likely tokens."""
    assert found.keys() == expected.keys()
    for id, completion in found.items():
        for one, other in zip(completion.logprobs, expected[id].logprobs, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=0.05)
            if one.token_id != other.token_id:
                assert one.top[0][2] - one.top[1][2] < 0.05
                break


def watched(pair: DisaggregatedBackend) -> list[int]:
    """A list that gets the number of tokens of each pass over prompts alone."""
    tokens: list[int] = []
    make = pair._make_prefill

    def make_watched() -> LlamaBackend:
        pool = make()
        decode = pool.decode

        def watch(items: Any) -> None:
            tokens.append(sum(len(item.tokens) for item in items))
            decode(items)

        pool.decode = watch  # type: ignore[method-assign]
        return pool

    pair._make_prefill = make_watched
    return tokens


@pytest.mark.parametrize("length", slow_but([600], [600, 8170, 8800]))
def test_prompts_move_whole(model: LlamaModel, made: Any, length: int) -> None:
    """The logits are equal to the bit if both contexts compute the same pieces."""
    prompt, part = words(model, 3, length), length + 300
    alone = LlamaBackend(
        model, n_ctx=2 * part, n_seq_max=2, n_batch=2048, n_ubatch=2048, unified=False
    )
    logits = []
    for backend in (made(2, pool=length + 2048, part=part), alone):
        for start in range(0, length, 2048):
            piece = prompt[start : start + 2048]
            backend.decode([BatchItem(1, start, piece, start + len(piece) == length)])
        rows = [backend.logits(0).copy()]
        for pos in range(length, length + 30):
            backend.decode([BatchItem(1, pos, [pos % 50 + 7], wants_logits=True)])
            rows.append(backend.logits(0).copy())
        assert backend.num_computed(1) == length + 30
        assert backend.exact_prefix(1, 100) == (100 if length + 30 < 8192 else 0)
        logits.append(rows)
    alone.close()
    assert np.array_equal(logits[0][0], logits[1][0])
    # If a chunk was left behind, the cells' order differs, and sums over them round differently.
    assert np.allclose(*logits, rtol=0, atol=0.05 if length > 8192 else 0)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_prompts_of_any_lengths_answer_as_on_one_context(
    model: LlamaModel, made: Any, kv_type: str
) -> None:
    requests = [greedy(str(n), words(model, n, 40 + 23 * n)) for n in range(14)]
    pair = made(8, kv_type=kv_type)
    prefilled = watched(pair)
    one = LlamaBackend(
        model, n_ctx=8 * PART, n_seq_max=8, n_batch=2048, unified=False, kv_type=kv_type
    )
    assert_alike(answers(pair, requests), answers(one, requests))
    assert sum(prefilled) >= 512


def test_a_prompt_that_the_pool_has_no_room_for(model: LlamaModel, made: Any) -> None:
    """It begins in the pool, and continues in the context for answers."""
    requests = [greedy(str(n), words(model, n, length)) for n, length in enumerate((1400, 700, 90))]
    one = LlamaBackend(model, n_ctx=3 * 2048, n_seq_max=3, n_batch=512, unified=False)
    pair = made(3, pool=1024, part=2048, n_batch=512)
    prefilled = watched(pair)
    assert_alike(answers(pair, requests), answers(one, requests))
    assert prefilled[:2] == [512, 512]


def test_a_shared_beginning_is_computed_once(model: LlamaModel, made: Any) -> None:
    head = words(model, 1, 600)
    requests = [greedy(str(n), [*head, *words(model, n, 20 + n)]) for n in range(5)]
    pair = made(4, part=1024)
    prefilled = watched(pair)
    with Engine(pair) as engine:
        done = list(engine.generate(requests))
    # Of those that can begin, only the longest is computed in the pool. The others are forked from
    # it in the context for answers, which computes the rest of them.
    assert prefilled == [623]
    assert sum(one.num_cached_tokens >= len(head) for one in done) == 4
    one = LlamaBackend(model, n_ctx=4 * 1024, n_seq_max=4, n_batch=2048, unified=False)
    assert_alike({each.request_id: each for each in done}, answers(one, requests))


def test_the_pool_is_made_while_others_answer(model: LlamaModel, made: Any) -> None:
    pair = made(3)
    pair.decode([BatchItem(0, 0, words(model, 1, 100), wants_logits=True)])
    assert pair._prefill is None
    prompts = [BatchItem(n, 0, words(model, n, 300), True) for n in (1, 2)]
    pair.decode([BatchItem(0, 100, [7], True), *prompts])
    assert pair._prefill is not None
    assert [pair.num_computed(n) for n in range(3)] == [101, 300, 300]
    found = [pair.logits(n).copy() for n in range(3)]
    alone = LlamaBackend(model, n_ctx=3 * PART, n_seq_max=3, n_batch=2048, unified=False)
    alone.decode([BatchItem(0, 0, words(model, 1, 100), wants_logits=False)])
    alone.decode([BatchItem(0, 100, [7], True)])
    assert np.array_equal(alone.logits(0), found[0])
    alone.decode(prompts)
    for output in range(2):
        assert np.allclose(alone.logits(output), found[output + 1], atol=0.05)
    alone.close()


@pytest.mark.parametrize("error", [ModelLoadError("no memory"), None])
def test_where_there_can_be_no_pool_all_is_computed_in_one_context(
    model: LlamaModel, error: Exception | None
) -> None:
    """There is no memory for a pool, or llama.cpp cannot move sequences out of it."""
    decode = LlamaBackend(model, n_ctx=2 * PART, n_seq_max=2, n_batch=2048, unified=False)

    def make_prefill() -> LlamaBackend:
        if error:
            raise error
        return LlamaBackend(model, n_ctx=2 * PART, n_seq_max=2, unified=False)

    requests = [greedy(str(n), words(model, n, 400)) for n in range(2)]
    one = LlamaBackend(model, n_ctx=2 * PART, n_seq_max=2, n_batch=2048, unified=False)
    assert_alike(
        answers(DisaggregatedBackend(decode, make_prefill), requests), answers(one, requests)
    )


def test_an_interrupt_stops_either_and_nothing_is_lost(model: LlamaModel, made: Any) -> None:
    request = greedy("x", words(model, 2, 4000))
    alone = answers(LlamaBackend(model, n_ctx=4096, n_batch=2048, unified=False), [request])
    with Engine(made(2, pool=6144, part=4096)) as engine:
        engine.add_request(request)
        timer = threading.Timer(0.05, engine.interrupt)
        timer.start()
        collector = Collector()
        collector.begin(request)
        found: dict[str, Completion] = {}
        assert engine.step() == []
        assert engine.scheduler.running[0].num_computed_tokens < 2048  # stopped in the first pass
        while engine.num_unfinished:
            found |= {done.request_id: done for done in collector.feed(engine.step())}
        timer.join()
    assert_alike(found, alone)


def test_an_interrupt_before_a_prompt_counts_once(model: LlamaModel, made: Any) -> None:
    pair, prompt = made(2, part=1024), words(model, 2, 600)
    pair.interrupt()
    with pytest.raises(DecodeAbortedError):
        pair.decode([BatchItem(0, 0, prompt, wants_logits=True)])
    pair.truncate(0, 0)
    pair.decode([BatchItem(0, 0, prompt, wants_logits=True)])
    pair.decode([BatchItem(0, 600, [5], wants_logits=True)])
    assert pair.num_computed(0) == 601


@pytest.mark.parametrize("kind", ["same", "file order"])
def test_it_is_how_a_model_is_loaded_where_that_was_chosen(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    decision = Decision(16384, "f16", gpu_layers=0, prefill_on=kind)
    monkeypatch.setattr("l4cli.loading.load.decide", lambda _file, _options: decision)
    with load(tiny_gguf, ctx="auto", parallel=256, elastic=True, store=True) as llm:
        requests = [
            llm.request([5, *range(20, 20 + length)], max_tokens=5) for length in (200, 210, 220)
        ]
        llm.fit(requests)
        assert isinstance(llm.engine.backend, DisaggregatedBackend)
        assert len(list(llm.engine.generate(requests))) == 3
        llm.fit(requests[:1], pool=True)
        assert isinstance(llm.engine.backend, LlamaBackend)
