"""Sequences on disk: after a restore, the logits are those of a run that computed everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from checkpoints import VOCAB_SIZE, write_checkpoint
from marks import slow_but

import convert
from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.pieces import PIECE
from l4cli.engine.types import BatchItem, Request, SamplingParams
from l4cli.errors import EngineError, ModelLoadError
from l4cli.loading.load import load
from l4cli.store import reuse
from l4cli.store.directory import StateDirectory

TEXT = Random(5).choices(range(VOCAB_SIZE // 2), k=8300)
QUESTION = [11, 12, 13, 14, 15]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    """Like Scout, but so narrow that 16 thousand tokens are computed in seconds."""
    path = tmp_path_factory.mktemp("thin")
    shapes = {"hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 32, "head_dim": 32}
    shapes |= {"intermediate_size_mlp": 32, "num_local_experts": 2}
    write_checkpoint(path / "checkpoint", **shapes)
    convert.convert(convert.plan(path / "checkpoint", "F32"), path / "thin.gguf")
    model = LlamaModel(path / "thin.gguf")
    yield model
    model.close()


def make_engine(model: LlamaModel, kv_type: str = "f16") -> Engine:
    """An engine with one thread: with so narrow a model, others would only wait for it."""
    options = {"n_ctx": 10240, "n_seq_max": 2, "n_threads": 1, "with_states": True}
    return Engine(LlamaBackend(model, kv_type=kv_type, **options))


def read(engine: Engine, tokens: list[int]) -> int:
    """Prefill the tokens; return how many of them were computed."""
    steps = list(engine.prefixes.prefill(tokens, pin=True))
    assert steps[-1] == len(tokens)
    return steps[-1] - steps[0]


def logits_after(engine: Engine, tokens: list[int]) -> np.ndarray:
    """The logits after a question, and after an answer's first token, in a forked sequence."""
    holder, held = engine.prefixes.holder(tokens)
    assert holder is not None
    assert held == len(tokens)
    backend = engine.backend
    assert isinstance(backend, LlamaBackend)
    assert backend.exact_prefix(holder.seq_id, held) == held
    branch = 1 - holder.seq_id
    backend.fork(holder.seq_id, branch, held)
    rows = []
    for start, items in ((held, QUESTION), (held + len(QUESTION), [21])):
        backend.decode([BatchItem(branch, start, items, wants_logits=True)])
        rows.append(backend.logits(0).copy())
    backend.truncate(branch, 0)
    return np.array(rows)


LENGTHS = [8191, 8192, 8193, 8300]
EDITED = [*TEXT[:8250], 7, *TEXT[8251:8260]]


def test_a_restored_prefix_is_the_computed_one(model: LlamaModel, tmp_path: Path) -> None:
    """The logits are equal to the bit, before and after a chunk's end, and after a later edit."""
    fresh = {}
    directory = StateDirectory({}, root=tmp_path)
    with make_engine(model) as engine:
        for length in LENGTHS:
            read(engine, TEXT[:length])
            fresh[length] = logits_after(engine, TEXT[:length])
            assert reuse.remember(engine, directory, TEXT[:length], note=pytest.fail)
        assert read(engine, EDITED) == len(EDITED) - 8193
        edited = logits_after(engine, EDITED)
    for length in fresh:
        with make_engine(model) as engine:
            assert reuse.recall(engine, directory, TEXT[:length], note=pytest.fail, exact=True)
            assert read(engine, TEXT[:length]) <= 64
            assert np.array_equal(logits_after(engine, TEXT[:length]), fresh[length])
    with make_engine(model) as engine:
        assert reuse.recall(engine, directory, EDITED, exact=True) == 8193
        read(engine, EDITED)
        assert np.array_equal(logits_after(engine, EDITED), edited)
        engine.scheduler.forget()
        assert read(engine, EDITED) == len(EDITED)
        assert np.array_equal(logits_after(engine, EDITED), edited)


class Late(LlamaBackend):
    """Counts the tokens before `begin` as computed, without computing them.

    So the end of a chunk is reached quickly, however slow a token is. llama.cpp cuts, stores, loads
    and continues states as always, except that attention sees no further back than `begin`.
    `benchmarks/restored_logits.py` does the same with all tokens computed.
    """

    def __init__(self, model: LlamaModel, begin: int, **options: Any) -> None:
        super().__init__(model, **options)
        self._begin = begin

    def decode(self, items: Sequence[BatchItem]) -> None:
        (item,) = items
        stop = item.pos + len(item.tokens)
        begin = min(stop, max(item.pos, self._begin))
        if begin < stop:
            tokens = item.tokens[begin - item.pos :]
            super().decode([BatchItem(item.seq_id, begin, tokens, item.wants_logits)])
        self._advanced(item.seq_id, stop)


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("end", [8192, 16_384])
def test_it_is_at_every_chunk_s_end(
    model: LlamaModel, tmp_path: Path, kv_type: str, end: int
) -> None:
    text = [*TEXT, *reversed(TEXT)][: end + 120]
    edited = [*text[: end + 10], 7, *text[end + 11 :]]
    directory = StateDirectory({}, root=tmp_path)
    begin = end - 8191 + 14 * PIECE  # where a piece begins

    def engine() -> Engine:
        options = {"n_ctx": end + 256, "n_seq_max": 2, "n_threads": 1, "with_states": True}
        return Engine(Late(model, begin, kv_type=kv_type, **options))

    prompts = {length: text[:length] for length in (end - 1, end, end + 1, end + 120)}
    fresh = {}
    with engine() as first:
        for length, tokens in prompts.items():
            first.scheduler.forget()
            read(first, tokens)
            fresh[length] = logits_after(first, tokens)
            assert reuse.remember(first, directory, tokens, note=pytest.fail)
        assert read(first, edited) == len(edited) - end - 1
        by_edit = logits_after(first, edited)
        first.scheduler.forget()
        read(first, edited)
        assert np.array_equal(logits_after(first, edited), by_edit)
    assert len({rows.tobytes() for rows in fresh.values()}) == len(fresh)
    for length, tokens in prompts.items():
        with engine() as later:
            assert reuse.recall(later, directory, tokens, note=pytest.fail, exact=True)
            assert read(later, tokens) <= 64
            assert np.array_equal(logits_after(later, tokens), fresh[length])


def test_contexts_of_another_size_read_the_same(model: LlamaModel, tmp_path: Path) -> None:
    """`l4 run` has larger batches and more sequences than `l4 ask`, and its states serve both."""
    directory, tokens = StateDirectory({}, root=tmp_path), TEXT[:1500]
    options = {"n_threads": 1, "with_states": True}
    with Engine(LlamaBackend(model, n_ctx=8192, n_seq_max=12, n_batch=2048, **options)) as run:
        read(run, tokens)
        key = run.backend.states.key
        assert reuse.remember(run, directory, tokens, note=pytest.fail)
    with Engine(LlamaBackend(model, n_ctx=2048, n_seq_max=2, **options)) as ask:
        assert ask.backend.states.key == key
        read(ask, tokens)
        fresh = logits_after(ask, tokens)
        ask.scheduler.forget()
        assert reuse.recall(ask, directory, tokens, note=pytest.fail, exact=True) == len(tokens)
        assert np.array_equal(logits_after(ask, tokens), fresh)


def make_regions(model: LlamaModel) -> Engine:
    options = {"n_ctx": 3 * 10240, "n_seq_max": 3, "n_threads": 1, "with_states": True}
    return Engine(LlamaBackend(model, unified=False, **options))


@pytest.mark.parametrize("length", slow_but([300], [300, 8192, 8300]))
def test_pools_and_regions_load_each_other_s_states(
    model: LlamaModel, tmp_path: Path, length: int
) -> None:
    """`l4 serve` has regions, `l4 chat` a pool. The logits differ by rounding only."""
    directory, tokens = StateDirectory({}, root=tmp_path), TEXT[:length]
    makers = {"pool": make_engine, "regions": make_regions}
    for saving, loading in (("regions", "pool"), ("pool", "regions"), ("regions", "regions")):
        with makers[saving](model) as first:
            key = first.backend.states.key
            read(first, tokens)
            expected = logits_after(first, tokens)
            assert reuse.remember(first, directory, tokens, note=pytest.fail)
            assert np.array_equal(logits_after(first, tokens), expected)  # saving changes nothing
        with makers[loading](model) as later:
            assert later.backend.states.key == key
            assert reuse.recall(later, directory, tokens, note=pytest.fail) == length
            np.testing.assert_allclose(logits_after(later, tokens), expected, atol=1e-4)
        for path in directory.path.glob("*.state"):
            path.unlink()


def test_a_restored_region_leaves_its_neighbours_alone(model: LlamaModel, tmp_path: Path) -> None:
    directory, tokens, other = StateDirectory({}, root=tmp_path), TEXT[:400], TEXT[400:900]
    with make_regions(model) as engine:
        engine.retain(3)
        read(engine, tokens)
        assert reuse.remember(engine, directory, tokens, note=pytest.fail)
        engine.scheduler.forget()
        request = Request(
            "neighbour", tuple(other), SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
        )
        alone = [one.token_ids for one in engine.stream(request)]
        engine.scheduler.forget()
        beside = []
        for step, one in enumerate(engine.stream(replace(request, id="again"))):
            beside.append(one.token_ids)
            if step == 10:
                assert reuse.recall(engine, directory, tokens, note=pytest.fail) == len(tokens)
        assert beside == alone
        assert engine.prefixes.holder(tokens)[1] == len(tokens)


def test_without_memory_for_the_pool_regions_go_on(
    model: LlamaModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, tokens, notes = StateDirectory({}, root=tmp_path), TEXT[:400], list[str]()
    with make_regions(model) as engine:

        def refuse(*_args: object, **_options: object) -> None:
            raise ModelLoadError("no context of 10,240 tokens could be made")

        monkeypatch.setattr(engine.backend.states, "_make_pool", refuse)
        read(engine, tokens)
        assert reuse.remember(engine, directory, tokens, note=notes.append) == 0
        assert notes == ["the prefix was not stored: no context of 10,240 tokens could be made"]
        assert engine.prefixes.holder(tokens)[1] == len(tokens)


def test_weights_multiplied_in_another_order_have_states_of_their_own(model: LlamaModel) -> None:
    """The order changes the rounding: a restored prefix would not equal a fresh run to the bit."""
    keys = set()
    for repack in (True, False):
        other = LlamaModel(model.path, repack=repack)
        with Engine(LlamaBackend(other, n_ctx=512, n_threads=1, with_states=True)) as engine:
            keys.add(engine.backend.states.key)
        other.close()
    assert len(keys) == 2


def test_a_state_of_another_kind_of_cache_is_not_loaded(model: LlamaModel, tmp_path: Path) -> None:
    """If a key ever failed to tell them apart, llama.cpp itself would notice."""
    with make_engine(model) as engine:
        read(engine, TEXT[:100])
        holder, _ = engine.prefixes.holder(TEXT[:100])
        assert engine.backend.states is not None
        engine.backend.states.save(holder.seq_id, 0, TEXT[:100], tmp_path / "f16")
    with make_engine(model, "q8_0") as engine:
        states = engine.backend.states
        assert states is not None
        with pytest.raises(EngineError, match="f16"):
            states.load(0, 0, TEXT[:100], tmp_path / "f16")
        assert engine.backend.num_computed(0) == 0
        read(engine, TEXT[:100])


def test_a_context_without_states_saves_none(model: LlamaModel, tmp_path: Path) -> None:
    with Engine(LlamaBackend(model, n_ctx=512)) as engine:
        read(engine, TEXT[:100])
        directory = StateDirectory({}, root=tmp_path / "none")
        assert reuse.remember(engine, directory, TEXT[:100]) == 0
        assert reuse.recall(engine, directory, TEXT[:100]) == 0
    assert not directory.path.exists()


def test_a_model_loaded_anew_recalls_what_was_remembered(tiny_gguf: Path) -> None:
    """This is how a chat uses the store: `recall` before a turn, `remember` after it."""
    notes: list[str] = []
    messages = [{"role": "user", "content": "hello the world " * 40}]
    with load(tiny_gguf, ctx=1024, store=True, on_note=notes.append) as llm:
        request = llm.request(messages, max_tokens=4, temperature=0)
        done = next(llm.engine.generate([request]))
        assert llm.recall(request.prompt) == 0
        assert llm.remember([*request.prompt, *done.token_ids]) > 0
        assert llm.remember([*request.prompt, *done.token_ids]) == 0
    with load(tiny_gguf, ctx=1024, store=True, on_note=notes.append) as llm:
        assert llm.recall(request.prompt) == len(request.prompt)
        again = next(llm.engine.generate([llm.request(messages, max_tokens=4, temperature=0)]))
        assert again.token_ids == done.token_ids
        assert again.num_cached_tokens == len(request.prompt) - 1
    with load(tiny_gguf, ctx=1024, store=True, kv_type="q8_0") as llm:
        assert llm.recall(request.prompt) == 0
    with load(tiny_gguf, ctx=1024) as llm:
        assert (llm.recall(request.prompt), llm.remember(request.prompt)) == (0, 0)
    assert notes == []
