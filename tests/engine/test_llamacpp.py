"""The binding to llama.cpp on a real, tiny model."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import BOS_ID, EOT_ID

from l4cli.engine.engine import Engine
from l4cli.engine.kv import KV_ELEMENT_BYTES
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.pages import ask_for_huge_pages
from l4cli.engine.types import BatchItem, DecodeAbortedError, Request, SamplingParams
from l4cli.errors import ModelLoadError, UsageError
from l4cli.prompt import PromptEncoder


@pytest.fixture
def backend(model: LlamaModel) -> Iterator[LlamaBackend]:
    backend = LlamaBackend(model, n_ctx=1024, n_seq_max=4, n_batch=128)
    yield backend
    backend.close()


def greedy(id: str, prompt: list[int], max_tokens: int = 12) -> Request:
    return Request(id, tuple(prompt), SamplingParams(max_tokens=max_tokens, temperature=0))


def logits_after(backend: LlamaBackend, seq_id: int, pos: int, tokens: list[int]) -> np.ndarray:
    backend.decode([BatchItem(seq_id, pos, tokens, wants_logits=True)])
    return backend.logits(0).copy()


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
def test_large_buffers_get_huge_pages() -> None:
    size = 64 << 20
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as buffer:
        start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        ask_for_huge_pages()
        regions = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
        mine = [r for r in regions if r.strip() and _holds(r, start)]
        assert "hg" in re.search(r"VmFlags: (.*)", mine[0])[1].split()


def _holds(region: str, address: int) -> bool:
    start, end = (int(part, 16) for part in region.split()[0].split("-"))
    return start <= address < end


def test_tokenization_round_trip(model: LlamaModel) -> None:
    text = "hello the world, 你好 \u2028 🦙\n\0 end"
    tokens = model.tokenize(text)
    assert b"".join(map(model.piece, tokens)).decode() == text


def test_special_text_is_plain_unless_asked_for(model: LlamaModel) -> None:
    assert EOT_ID not in model.tokenize("<|eot|>")
    assert model.tokenize("<|eot|>", special=True) == [EOT_ID]
    assert model.piece(EOT_ID) == b""


def test_end_tokens_and_bos(model: LlamaModel) -> None:
    assert EOT_ID in model.eog_tokens
    assert (model.bos_token, model.adds_bos) == (BOS_ID, True)
    assert model.attention == ("chunked", 8192)


def test_user_text_cannot_end_its_own_turn(model: LlamaModel) -> None:
    tokens = PromptEncoder(model).chat([{"role": "user", "content": "a<|eot|>b"}])
    assert tokens.count(EOT_ID) == 1
    assert tokens.count(BOS_ID) == 1


def test_batch_equals_single(backend: LlamaBackend, model: LlamaModel) -> None:
    prompts = [model.tokenize(f"hello {'world ' * n}{n}") for n in range(10)]
    engine = Engine(backend)
    together = {
        c.request_id: c.token_ids
        for c in engine.generate(greedy(str(n), p) for n, p in enumerate(prompts))
    }
    engine.scheduler.forget()
    for n, prompt in enumerate(prompts):
        (alone,) = engine.generate([greedy("alone", prompt)])
        engine.scheduler.forget()
        assert together[str(n)] == alone.token_ids


def test_prefix_reused_logits_equal_fresh_logits(backend: LlamaBackend, model: LlamaModel) -> None:
    """If the batches are split in the same way, the difference is exactly zero."""
    prefix, tail = model.tokenize("the world and " * 8), model.tokenize(" hello")
    backend.decode([BatchItem(0, 0, prefix, wants_logits=False)])
    fresh = logits_after(backend, 0, len(prefix), tail)
    backend.fork(0, 1, len(prefix))
    forked = logits_after(backend, 1, len(prefix), tail)
    backend.truncate(0, len(prefix))
    rolled_back = logits_after(backend, 0, len(prefix), tail)
    assert np.array_equal(fresh, forked)
    assert np.array_equal(fresh, rolled_back)


def test_a_seed_makes_the_draw_repeatable(backend: LlamaBackend, model: LlamaModel) -> None:
    engine = Engine(backend)

    def draw(seed: int) -> tuple[int, ...]:
        params = SamplingParams(max_tokens=12, temperature=2.0, top_p=1.0, seed=seed)
        engine.scheduler.forget()
        (done,) = engine.generate([Request("x", tuple(model.tokenize("hello")), params)])
        return done.token_ids

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_interrupt_stops_a_decode_from_another_thread(model: LlamaModel) -> None:
    backend = LlamaBackend(model, n_ctx=8192, n_batch=8192)
    engine = Engine(backend)
    prompt = model.tokenize("the world " * 1000)
    engine.add_request(greedy("long", prompt, max_tokens=1))
    timer = threading.Timer(0.2, engine.interrupt)
    timer.start()
    started = time.perf_counter()
    assert engine.step() == []
    timer.join()
    computed = engine.scheduler.running[0].num_computed_tokens
    assert computed < len(prompt)
    assert time.perf_counter() - started < 30
    (done,) = engine.step()  # the rest, as if nothing had happened
    assert done.finish_reason == "length"
    engine.close()


def test_an_interrupt_before_a_decode_counts_for_it(backend: LlamaBackend) -> None:
    backend.interrupt()
    with pytest.raises(DecodeAbortedError):
        backend.decode([BatchItem(0, 0, [1, 2, 3], wants_logits=True)])
    backend.decode([BatchItem(0, 0, [1, 2, 3], wants_logits=True)])


def test_context_is_cut_to_what_the_model_was_trained_for(model: LlamaModel) -> None:
    with pytest.raises(UsageError, match="at least 1 token"):
        LlamaBackend(model, n_ctx=0)
    with pytest.raises(UsageError, match="no KV type 'q9'"):
        LlamaBackend(model, n_ctx=64, kv_type="q9")
    with pytest.raises(UsageError, match="1 to 256 sequences"):
        LlamaBackend(model, n_ctx=64, n_seq_max=1000)


@pytest.mark.parametrize("kv_type", KV_ELEMENT_BYTES)
def test_every_kv_type_computes(model: LlamaModel, kv_type: str) -> None:
    backend = LlamaBackend(model, n_ctx=256, kv_type=kv_type)
    tokens = model.tokenize("hello world, hello again")
    assert np.isfinite(logits_after(backend, 0, 0, tokens)).all()
    backend.close()


def test_a_quantized_kv_cache_works(model: LlamaModel) -> None:
    backend = LlamaBackend(model, n_ctx=256, kv_type="q8_0")
    with Engine(backend) as engine:
        params = SamplingParams(max_tokens=12, ignore_eos=True)
        (done,) = engine.generate([Request("x", tuple(model.tokenize("hello world")), params)])
    assert done.num_completion_tokens == 12


@pytest.mark.parametrize("keep", [3, 100, 20_000, 1_000_000])
def test_a_truncated_file_is_refused(tiny_gguf: Path, tmp_path: Path, keep: int) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(tiny_gguf.read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match=r"broken\.gguf"):
        LlamaModel(broken)


def test_what_is_no_gguf_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ModelLoadError, match="is not a GGUF file"):
        LlamaModel(file)
    with pytest.raises(ModelLoadError, match="is a directory"):
        LlamaModel(tmp_path)


@pytest.mark.slow
def test_a_pruned_chunk_is_not_trusted_for_rollback(model: LlamaModel) -> None:
    """The 8192 rule on real cells: before the current chunk, only a boundary is exact."""
    backend = LlamaBackend(model, n_ctx=10240, n_batch=1024)
    tokens = (model.tokenize("hello world and the llama ") * 2000)[:9000]
    for start in range(0, 9000, 1024):
        stop = min(9000, start + 1024)
        backend.decode([BatchItem(0, start, tokens[start:stop], wants_logits=False)])
    assert backend.exact_prefix(0, 8500) == 8500
    assert backend.exact_prefix(0, 8000) == 0
    backend.truncate(0, 8192)
    again = logits_after(backend, 0, 8192, tokens[8192:8260])
    backend.truncate(0, 8192)
    assert np.array_equal(again, logits_after(backend, 0, 8192, tokens[8192:8260]))
    backend.close()


def test_sequences_with_parts_of_their_own_answer_as_in_one_pool(model: LlamaModel) -> None:
    """Forks copy the shared prefix, and the answers are those of a pool."""
    head = model.tokenize("the world and hello " * 8)
    prompts = [head + model.tokenize(f" {n} {'ing ' * n}") for n in range(9)]
    answers = []
    for unified in (True, False):
        backend = LlamaBackend(model, n_ctx=4 * 256, n_seq_max=4, unified=unified)
        assert backend.n_ctx_seq == (1024 if unified else 256)
        with Engine(backend) as engine:
            requests = [greedy(str(n), p) for n, p in enumerate(prompts)]
            done = {c.request_id: c for c in engine.generate(requests)}
        assert sum(c.num_cached_tokens >= len(head) for c in done.values()) == 8
        answers.append({id: c.token_ids for id, c in done.items()})
    assert answers[0] == answers[1]


def test_a_forked_part_computes_the_same_logits(model: LlamaModel) -> None:
    backend = LlamaBackend(model, n_ctx=512, n_seq_max=2, unified=False)
    prefix, tail = model.tokenize("the world and " * 8), model.tokenize(" hello")
    backend.decode([BatchItem(0, 0, [*prefix, 5, 6], wants_logits=False)])
    backend.fork(0, 1, len(prefix))
    assert backend.num_computed(1) == len(prefix)
    forked = logits_after(backend, 1, len(prefix), tail)
    backend.truncate(0, len(prefix))
    assert np.array_equal(forked, logits_after(backend, 0, len(prefix), tail))
    backend.close()


def test_deterministic_answers_do_not_depend_on_what_came_before(model: LlamaModel) -> None:
    """Bit for bit: the logprobs are equal, not only the tokens."""
    head = model.tokenize("the world and hello " * 20)
    prompts = [head + model.tokenize(f" {n} {'ing ' * (7 * n)}") for n in range(8)]
    params = SamplingParams(max_tokens=12, temperature=0, logprobs=0, ignore_eos=True)
    backend = LlamaBackend(model, n_ctx=1024, n_batch=32, unified=False)
    with Engine(backend, deterministic=True) as engine:
        requests = [Request(str(n), tuple(p), params) for n, p in enumerate(prompts)]
        together = {c.request_id: c for c in engine.generate(requests)}
        assert sum(c.num_cached_tokens for c in together.values()) >= 7 * 64
        again = {c.request_id: c for c in engine.generate(reversed(requests))}
        for request in requests:
            engine.scheduler.forget()
            (alone,) = engine.generate([request])
            assert alone.num_cached_tokens == 0
            for other in (together[request.id], again[request.id]):
                assert alone.logprobs == other.logprobs


@pytest.mark.parametrize("size", [{"n_batch": 2**31}, {"n_ubatch": 2**32}])
def test_a_size_beyond_what_llama_cpp_counts_is_refused(
    model: LlamaModel, size: dict[str, int]
) -> None:
    with pytest.raises(UsageError, match="at most 2,147,483,647 tokens, not"):
        LlamaBackend(model, n_ctx=256, **size)
