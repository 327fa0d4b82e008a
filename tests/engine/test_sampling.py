"""Choosing tokens on a real, tiny model: draws, penalties, logprobs, constraints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import llama_cpp
import numpy as np
import pytest

from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.sampling import nucleus
from l4cli.engine.types import BatchItem, Completion, Constraint, Request, SamplingParams
from l4cli.errors import EngineError, RequestError

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(model: LlamaModel) -> Iterator[Engine]:
    with Engine(LlamaBackend(model, n_ctx=2048, n_seq_max=8, n_batch=128)) as engine:
        yield engine


def ask(engine: Engine, model: LlamaModel, text: str = "hello world", **params: Any) -> Completion:
    given = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True, **params}
    request = Request("r", tuple(model.tokenize(text)), SamplingParams(**given))
    (done,) = engine.generate([request])
    return done


def test_a_draw_is_the_one_llama_cpp_would_make(model: LlamaModel) -> None:
    """Leaving out negligible tokens changes no draw, whatever the settings."""
    backend = LlamaBackend(model, n_ctx=64)
    prompt = model.tokenize("hello")
    backend.decode([BatchItem(0, 0, prompt, wants_logits=True)])
    backend.logits(0)[:] *= 40  # like a trained model's logits: most tokens are negligible
    for seed in range(40):
        params = SamplingParams(temperature=0.5 + seed / 40, top_p=0.95, min_p=0.001, seed=seed)
        sampler = backend.sampler(params, prompt)
        ours = sampler.sample(0).token
        sampler.close()
        sampler = backend.sampler(params, prompt)
        theirs = llama_cpp.llama_sampler_sample(sampler._chain, backend._handle, -1)
        sampler.close()
        assert ours == theirs
    backend.close()


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 8.0])
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
@pytest.mark.parametrize("n", [1, 300, 20_000])
def test_top_p_keeps_the_smallest_set_that_reaches_it(spread: float, top_p: float, n: int) -> None:
    logits = np.random.default_rng(1).normal(0, spread, n).astype(np.float32)
    kept = nucleus(logits, top_p)
    weights = np.sort(np.exp(logits.astype(np.float64)))[::-1]
    size = int(np.searchsorted(np.cumsum(weights), top_p * weights.sum())) + 1
    assert len(set(kept)) == len(kept)
    assert abs(len(kept) - size) <= size * 1e-4  # the sums are rounded in another order
    assert logits[kept].min() >= np.sort(logits)[::-1][len(kept) - 1]
    if len(kept) <= 4096:
        assert list(logits[kept]) == sorted(logits[kept], reverse=True)


def test_logprobs_are_of_the_whole_vocabulary(engine: Engine, model: LlamaModel) -> None:
    done = ask(engine, model, logprobs=3, temperature=1.5, seed=1)
    assert len(done.logprobs) == len(done.token_ids) == 12
    for entry, token in zip(done.logprobs, done.token_ids, strict=True):
        assert entry.token_id == token
        assert entry.piece == model.piece(token)
        likeliest = [logprob for _, _, logprob in entry.top]
        assert likeliest == sorted(likeliest, reverse=True)
        assert entry.logprob <= likeliest[0] <= 0.0
    assert ask(engine, model, logprobs=0).logprobs[0].top == ()
    assert ask(engine, model).logprobs == ()
    every = ask(engine, model, logprobs=20, max_tokens=1).logprobs[0]
    assert every.top[0] == (every.token_id, every.piece, every.logprob)


def test_logprobs_agree_with_the_logits(model: LlamaModel) -> None:
    backend = LlamaBackend(model, n_ctx=64)
    prompt = model.tokenize("hello the world")
    backend.decode([BatchItem(0, 0, prompt, wants_logits=True)])
    logits = backend.logits(0).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum())
    sampler = backend.sampler(SamplingParams(temperature=0, logprobs=5), prompt)
    logprob = sampler.sample(0).logprob
    assert logprob is not None
    for token, _, value in logprob.top:
        assert value == pytest.approx(expected[token], abs=1e-5)
    sampler.close()
    backend.close()


def test_biases_and_penalties(engine: Engine, model: LlamaModel) -> None:
    (wanted,) = set(model.tokenize("the"))
    assert set(ask(engine, model, logit_bias=((wanted, 100.0),)).token_ids) == {wanted}
    banned = ask(engine, model).token_ids[0]
    assert banned not in ask(engine, model, logit_bias=((banned, -100.0),)).token_ids
    spread = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 200, "seed": 4}
    favoured = {**spread, "logit_bias": ((wanted, 5.0),)}
    often = ask(engine, model, **favoured).token_ids.count(wanted)
    assert ask(engine, model, **favoured, frequency_penalty=2.0).token_ids.count(wanted) < often / 2
    assert ask(engine, model, **favoured, presence_penalty=2.0).token_ids.count(wanted) < often
    said = ask(engine, model, repetition_penalty=10.0).token_ids
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 20.0])
def test_an_answer_under_a_schema_is_valid(
    engine: Engine, model: LlamaModel, temperature: float
) -> None:
    """With random weights, only the schema makes the answer valid."""
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    for seed in range(6):
        done = ask(
            engine, model, constraint=constraint, temperature=temperature, seed=seed,
            max_tokens=400, ignore_eos=False, logprobs=1,
        )  # fmt: skip
        assert done.finish_reason == "stop"
        value = json.loads(done.text)
        assert set(value) == {"name", "age", "tags"}
        assert len(value["name"]) <= 8
        assert 0 <= value["age"] <= 150
        assert set(value["tags"]) <= {"a", "b"}
        assert len(done.logprobs) == len(done.token_ids)


def test_other_constraints(engine: Engine, model: LlamaModel) -> None:
    grammar = Constraint("grammar", 'root ::= ("yes" | "no") ", " [0-9]{3}')
    assert ask(engine, model, constraint=grammar).text[-3:].isdigit()
    assert ask(engine, model, constraint=Constraint("regex", "[ab]{4}")).text.strip("ab") == ""
    cut = ask(engine, model, constraint=Constraint("regex", "[a-z]{500}"), max_tokens=3)
    assert cut.finish_reason == "length"
    text = ask(engine, model, constraint=Constraint("json_object"), max_tokens=600)
    assert text.finish_reason == "length" or isinstance(json.loads(text.text), dict)


def test_many_constrained_rows_side_by_side(engine: Engine, model: LlamaModel) -> None:
    constraint = Constraint("json_schema", json.dumps(SCHEMA))
    params = SamplingParams(max_tokens=200, temperature=2.0, seed=3, constraint=constraint)
    prompts = [tuple(model.tokenize(f"hello {n}")) for n in range(8)]
    done = list(engine.generate(Request(str(n), p, params) for n, p in enumerate(prompts)))
    assert len(done) == 8
    assert all(set(json.loads(c.text)) == set(SCHEMA["required"]) for c in done)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint("json_schema", "{"), "JSON schema: "),
        (Constraint("json_schema", '{"type": "objec"}'), "JSON schema: Invalid type: objec"),
        (Constraint("json_schema", '{"$ref": "http://x/y"}'), "JSON schema: "),
        (Constraint("grammar", "root ::= ("), r"grammar: .*Expected '\)' at line 1"),
        (Constraint("grammar", "root ::= other"), "grammar: .*'other' not found"),
        (Constraint("regex", "(a"), "regular expression: .*unclosed group"),
    ],
)
def test_a_broken_constraint_is_refused(
    engine: Engine, model: LlamaModel, constraint: Constraint, message: str
) -> None:
    request = Request("r", tuple(model.tokenize("a")), SamplingParams(constraint=constraint))
    with pytest.raises(RequestError, match=message):
        engine.add_request(request)
    assert engine.num_unfinished == 0


@pytest.mark.parametrize("penalty", [1.0, 1e-40])
@pytest.mark.parametrize("temperature", [1e-7, 1e-40, 5e-324])
def test_a_tiny_temperature_is_greedy(
    engine: Engine, model: LlamaModel, temperature: float, penalty: float
) -> None:
    """In float32 the logits divided by it are infinite, and llama.cpp would end the process."""
    params = {"repetition_penalty": penalty, "logprobs": 1}
    drawn = ask(engine, model, temperature=temperature, seed=1, **params)
    assert drawn.token_ids == ask(engine, model, temperature=0, **params).token_ids


def test_a_huge_top_k_takes_all_tokens(engine: Engine, model: LlamaModel) -> None:
    draw = {"temperature": 2.0, "top_p": 1.0, "seed": 3}
    every = ask(engine, model, top_k=model.n_vocab, **draw).token_ids
    assert ask(engine, model, top_k=2**32 + 1, **draw).token_ids == every


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_scores_that_are_too_large_end_the_answer_not_the_process(
    model: LlamaModel, value: float
) -> None:
    backend = LlamaBackend(model, n_ctx=64)
    prompt = model.tokenize("hello")
    backend.decode([BatchItem(0, 0, prompt, wants_logits=True)])
    backend.logits(0)[:] = value
    sampler = backend.sampler(SamplingParams(temperature=0.01, repetition_penalty=1.1), prompt)
    with pytest.raises(EngineError, match="scores are not numbers"):
        sampler.sample(0)
    sampler.close()
    backend.close()
