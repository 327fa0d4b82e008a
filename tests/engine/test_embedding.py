"""Embeddings: the numbers are transformers' own, and nothing odd gets to llama.cpp."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import fingerprint
from conftest import GOLDEN
from decoders import write_decoder
from encoders import VOCAB_SIZE, write_encoder
from gguf_fuzz import edited

import convert
from convert.gguf.fields import Field, boolean, u32
from l4cli import load, load_embedder
from l4cli.engine.embedding import batches_of, finished
from l4cli.engine.types import DecodeAbortedError
from l4cli.errors import ContextOverflowError, L4Error, ModelLoadError, RequestError, UsageError
from l4cli.loading.embedder import Embedder
from l4cli.loading.embedder_options import EmbedderSizes, longest_of

GOLDEN_IDS = json.loads((GOLDEN / "embeddings.json").read_text())["uncased"]
SHORT = [ids for ids in GOLDEN_IDS.values() if len(ids) <= 64]


def convert_to(checkpoint: Path, ftype: str = "F32") -> Path:
    path = checkpoint.with_name(f"{checkpoint.name}.gguf")
    convert.convert(convert.plan(checkpoint, ftype), path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_to(write_encoder(tmp_path_factory.mktemp("bert") / "tiny-bert"))


@pytest.fixture(scope="module")
def embedder(bert: Path) -> Iterator[Embedder]:
    with load_embedder(bert, threads=1) as embedder:
        yield embedder


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_numbers_are_transformers_own(pooling: str, tmp_path: Path) -> None:
    checkpoint = write_encoder(tmp_path / "model", pooling=pooling)
    golden = np.load(GOLDEN / "embeddings.npz")
    assert str(golden["fingerprint"]) == fingerprint(checkpoint)
    with load_embedder(convert_to(checkpoint), threads=1) as embedder:
        assert embedder.pooling == pooling
        found = embedder.embed(SHORT)
    assert found.num_tokens == tuple(map(len, SHORT))
    # llama.cpp computes GELU by its tanh formula, and attention with keys and values of 16 bits.
    assert (found.vectors * golden[pooling]).sum(axis=1).min() > 0.9999


def test_texts_and_their_tokens_are_alike(embedder: Embedder) -> None:
    texts = [text for text, ids in GOLDEN_IDS.items() if text and len(ids) <= 64]
    by_text = embedder.embed(texts)
    by_ids = embedder.embed([GOLDEN_IDS[text] for text in texts])
    np.testing.assert_array_equal(by_text.vectors, by_ids.vectors)
    np.testing.assert_allclose(np.linalg.norm(by_text.vectors, axis=1), 1, rtol=1e-6)


def test_many_inputs_are_the_same_as_one_by_one(bert: Path, embedder: Embedder) -> None:
    texts = [f"the cat sat {'in ' * (n % 40)}{n}" for n in range(200)]
    together = embedder.embed(texts).vectors
    with load_embedder(bert, threads=1, alone=True) as alone:
        singly = alone.embed(texts).vectors
        np.testing.assert_array_equal(alone.embed(texts[::-1]).vectors, singly[::-1])
    assert (together * singly).sum(axis=1).min() > 0.9999


def test_fewer_dimensions_are_the_first_ones_of_length_1(embedder: Embedder) -> None:
    whole = embedder.embed(["the cat"]).vectors[0]
    cut = embedder.embed(["the cat"], dimensions=7).vectors[0]
    np.testing.assert_allclose(cut, whole[:7] / np.linalg.norm(whole[:7]), rtol=1e-5)
    for dimensions in (0, 129):
        with pytest.raises(RequestError, match="dimensions must be from 1 to 128"):
            embedder.embed(["a"], dimensions=dimensions)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "input 1 is an empty text"),
        ([], "input 1 has no tokens"),
        ([2, VOCAB_SIZE, 3], f"input 1 has the token id {VOCAB_SIZE}, and the vocabulary has"),
        ([-1], "input 1 has the token id -1"),
        ([10**30], "input 1 has the token id 1000"),
        ("\udc80", "input 1 the text holds a lone surrogate"),
    ],
)
def test_what_cannot_be_embedded_is_named(
    given: str | list[int], message: str, embedder: Embedder
) -> None:
    with pytest.raises(RequestError, match=message):
        embedder.embed(["the cat", given])


def test_nothing_is_cut(embedder: Embedder) -> None:
    assert embedder.longest == 64
    assert embedder.embed(["the " * 62]).num_tokens == (64,)
    with pytest.raises(ContextOverflowError, match="input 0 has 65 tokens, and tiny-bert takes 64"):
        embedder.embed(["the " * 63])
    with pytest.raises(ContextOverflowError, match="has 70 tokens"):
        embedder.embed([[5] * 70])


def test_the_engine_refuses_what_would_end_the_process(embedder: Embedder) -> None:
    for inputs in ([[5] * 65], [[VOCAB_SIZE]], [[-1]], [[]], [], [[5]] * 65, [[5] * 60] * 9):
        with pytest.raises(ValueError, match=r"inputs|token ids"):
            embedder.compute(inputs)


def test_an_interrupt_ends_a_computation_and_the_next_one_runs(embedder: Embedder) -> None:
    ended = threading.Event()

    def interrupt() -> None:
        while not ended.is_set():
            embedder.interrupt()

    def compute_often() -> None:
        for _ in range(10_000):
            embedder.compute([[5] * 60] * 8)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(DecodeAbortedError):
            compute_often()
    finally:
        ended.set()
        thread.join()
    assert np.isfinite(embedder.compute([[5, 6]])).all()


@pytest.mark.parametrize("pooling", ["lasttoken", "mean"])
def test_a_decoder_with_a_pooling_makes_embeddings(pooling: str, tmp_path: Path) -> None:
    from encoders import write_pooling

    checkpoint = write_decoder(tmp_path / "model", "qwen3")
    write_pooling(checkpoint, pooling)
    path = convert_to(checkpoint)
    with pytest.raises(ModelLoadError, match="l4 serve --embed"):
        load(path)
    with load_embedder(path, threads=1) as embedder:
        texts = ["hello world", "hello", "the llama is hello"]
        together = embedder.embed(texts).vectors
        singly = np.concatenate([embedder.embed([text]).vectors for text in texts])
    assert (together * singly).sum(axis=1).min() > 0.999
    assert abs(together[0] @ together[1]) < 0.9999


def test_a_model_that_states_no_pooling_is_refused_unless_it_is_given(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelLoadError, match=r"tiny states no llama4.pooling_type"):
        load_embedder(tiny_gguf)
    path = convert_to(write_encoder(tmp_path / "model", pooling=None))
    with pytest.raises(ModelLoadError, match=r"model states no pooling_type: give the --embed-poo"):
        load_embedder(path)
    with load_embedder(path, pooling="cls", threads=1) as embedder:
        assert embedder.pooling == "cls"


@pytest.mark.parametrize(
    ("longest", "message"), [(65, "more than the 64 tokens"), (10**9, "more than the 64")]
)
def test_longer_inputs_than_it_was_trained_for_are_refused(
    longest: int, message: str, bert: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        load_embedder(bert, longest=longest)


def test_shorter_inputs_may_be_asked_for(bert: Path) -> None:
    with load_embedder(bert, longest=10, threads=1) as embedder:
        assert embedder.longest == 10
        embedder.embed([[5] * 10] * 100)
        with pytest.raises(ContextOverflowError):
            embedder.embed([[5] * 11])


def test_memory_decides_how_long_inputs_may_be() -> None:
    sizes = EmbedderSizes(
        n_ctx_train=32_768,
        n_vocab=150_000,
        n_embd=1024,
        n_ff=3072,
        n_layers=28,
        n_bytes=1 << 30,
        has_cache=True,
    )
    assert longest_of("m", sizes, None, None) == 8192
    assert longest_of("m", sizes, None, 64 << 30) == 8192
    assert 256 <= longest_of("m", sizes, None, 4 << 30) < 8192
    with pytest.raises(ModelLoadError, match=r"m does not fit: .* inputs of 8k"):
        longest_of("m", sizes, None, 100 << 20)
    with pytest.raises(ModelLoadError, match="--embed-ctx"):
        longest_of("m", sizes, 32_768, 4 << 30)


def test_encoders_have_logits_set_aside_too() -> None:
    fields = {
        "general.architecture": "bert",
        "bert.context_length": 8192,
        "bert.embedding_length": 1024,
        "bert.feed_forward_length": 4096,
        "bert.block_count": 24,
        "tokenizer.ggml.tokens": ["a"] * 250_000,
    }
    sizes = EmbedderSizes.of(fields, 1 << 30)
    assert sizes.bytes_per_token > 4 * 250_000
    assert longest_of("m", sizes, None, 8 << 30) < 8192


HOSTILE: dict[str, dict[str, Field | None]] = {
    "a reranker": {"bert__pooling_type": u32(4)},
    "unknown pooling": {"bert__pooling_type": u32(7)},
    "no context": {"bert__context_length": None},
    "a longer context than positions": {"bert__context_length": u32(1 << 20)},
    "no heads": {"bert__attention__head_count": u32(0)},
    "odd heads": {"bert__attention__head_count": u32(3)},
    "other values": {"bert__attention__value_length": u32(16)},
    "no token types": {"tokenizer__ggml__token_type_count": u32(0)},
    "a wider model": {"bert__embedding_length": u32(256)},
    "no layers": {"bert__block_count": u32(0)},
    "no beginning": {"tokenizer__ggml__bos_token_id": u32(1 << 30)},
    "no tokens": {"tokenizer__ggml__tokens": None},
    "no model": {"tokenizer__ggml__model": None},
    "causal": {"bert__attention__causal": boolean(True)},
}


def test_odd_files_are_one_line_or_work(bert: Path, tmp_path: Path) -> None:
    """All in one process, away from this one: a crash is at the first file without a line."""
    code = (
        "import sys; from l4cli import load_embedder; from l4cli.errors import L4Error\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        load_embedder(path, threads=1).embed(['a cat', 'b' * 300])\n"
        "    except L4Error as error:\n        print('said', error, flush=True)\n"
        "    else:\n        print('done', path, flush=True)\n"
    )
    paths = [edited(bert, tmp_path / f"{name}.gguf", **HOSTILE[name]) for name in HOSTILE]
    ended = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    assert len(ended.stdout.splitlines()) == len(HOSTILE), ended.stdout


def test_weights_that_are_no_numbers_are_said(tmp_path: Path) -> None:
    from checkpoints import read_weights, write_shards

    checkpoint = write_encoder(tmp_path / "model")
    weights = read_weights(checkpoint)
    weights["encoder.layer.1.output.LayerNorm.weight"][:] = 3e38
    write_shards(checkpoint, weights, dtype="F32", shards=1)
    with (
        load_embedder(convert_to(checkpoint), threads=1) as embedder,
        pytest.raises(L4Error, match="input 0: the model computed values that are no numbers"),
    ):
        embedder.embed(["the cat"])


def test_batches_have_every_input_once_and_like_with_like() -> None:
    lengths = [5, 60, 1, 1, 30, 64, 2] * 9
    batches = list(batches_of(lengths, 64, 8))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert sum(lengths[index] for index in batch) <= 64
        assert len(batch) <= 8
    in_order = [lengths[index] for batch in batches for index in batch]
    assert in_order == sorted(lengths)


def test_a_vector_of_zeros_stays_one() -> None:
    vectors = np.array([[0, 0], [3, 4]], np.float32)
    np.testing.assert_allclose(finished(vectors), [[0, 0], [0.6, 0.8]])
