"""Sums of squares: llama-imatrix's own numbers, numpy's, and the order of the additions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkpoints import fingerprint, write_checkpoint
from decoders import KINDS, write_decoder
from gguf import GGUFReader
from numpy.typing import NDArray

import convert
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.llamacpp.inputs import Product
from l4cli.errors import InputError, ModelError
from l4cli.eval.texts import read_text_file
from l4cli.imatrix.choosing import Policy
from l4cli.imatrix.chunks import Chunks, Source, cut
from l4cli.imatrix.partial import State
from l4cli.imatrix.session import Collection
from l4cli.imatrix.sums import Sums
from l4cli.speeds import Conditions

GOLDEN = Path(__file__).parent.parent / "golden"
N_CTX, NUM_CHUNKS = 64, 6  # of tests/golden/make_imatrix.py


def chunks_of(model: LlamaModel, n_ctx: int) -> Chunks:
    tokens = read_text_file(GOLDEN / "perplexity.txt").tokens(model)
    return cut([Source("text", tokens)], n_ctx, model.bos_token if model.adds_bos else None)


def measured(gguf: Path, n_ctx: int, most: int) -> tuple[Sums, Chunks]:
    model = LlamaModel(gguf)
    chunks = chunks_of(model, n_ctx)
    state = State()
    policy = Policy(chunks.ends, most)
    Collection(model, Conditions("", n_threads=2), chunks, policy, state).run()
    model.close()
    return state.sums, chunks


@pytest.mark.parametrize("kind", ["scout", "mixtral"])
def test_sums_are_those_of_llama_imatrix(kind: str, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "imatrix.npz")
    path = tmp_path / "model"
    if kind in KINDS:
        write_decoder(path, kind)
    else:
        write_checkpoint(path, kind=kind)
    assert fingerprint(path) == str(golden[f"{kind} fingerprint"])
    convert.convert(convert.plan(path, "F32"), tmp_path / "model.gguf")
    sums, _ = measured(tmp_path / "model.gguf", N_CTX, NUM_CHUNKS)
    names = {name.removeprefix(f"{kind} ") for name in golden if name.startswith(f"{kind} blk")}
    assert {name.removesuffix(".in_sum2") for name in names if "sum2" in name} == set(sums.entries)
    for name, entry in sums.entries.items():
        expected = golden[f"{kind} {name}.counts"].ravel()
        assert entry.counts.tolist() == expected.tolist(), name
        np.testing.assert_allclose(
            entry.sums.ravel(), golden[f"{kind} {name}.in_sum2"].ravel(), rtol=1e-5
        )
    routed = sums.experts()
    assert len(routed) > 1
    per_token = 2 if kind == "mixtral" else 1
    assert {int(counts.sum()) for counts in routed.values()} == {per_token * N_CTX * NUM_CHUNKS}


def test_the_first_layers_sums_are_those_of_numpy(tiny_gguf: Path) -> None:
    """What the first attention reads is the norm of the embeddings."""
    sums, chunks = measured(tiny_gguf, 40, 3)
    reader = GGUFReader(tiny_gguf)
    weights = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    field = reader.get_field("llama4.attention.layer_norm_rms_epsilon")
    assert field
    epsilon = float(field.contents())
    ids = [token for chunk in range(3) for token in chunks.ids(chunk)]
    rows = weights["token_embd.weight"][ids].astype(np.float64)
    scale = np.sqrt((rows**2).mean(1, keepdims=True) + epsilon)
    expected = ((rows / scale * weights["blk.0.attn_norm.weight"]) ** 2).sum(0)
    for name in ("attn_q", "attn_k", "attn_v"):
        entry = sums.entries[f"blk.0.{name}.weight"]
        assert entry.counts.tolist() == [120]
        np.testing.assert_allclose(entry.sums[0], expected, rtol=1e-5)


def one_by_one(sums: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    found = sums.copy()
    for row in rows:
        found += row * row
    return found


def test_rows_are_added_one_after_another() -> None:
    random = np.random.default_rng(1)
    sums, expected = Sums(), np.zeros(33, np.float32)
    for num in (1, 2, 7, 512, 3):
        rows = random.standard_normal((num, 33), np.float32)
        sums.take(Product("blk.0.a.weight", (1, 1), rows[None, None], None))
        expected = one_by_one(expected, rows)
    assert np.array_equal(sums.entries["blk.0.a.weight"].sums[0], expected)
    assert sums.entries["blk.0.a.weight"].counts.tolist() == [525]


@pytest.mark.parametrize("width", [1, 3])
def test_each_expert_has_the_sums_of_its_tokens(width: int) -> None:
    """`width` 1: all chosen experts read the same input; 3: each reads its own."""
    random = np.random.default_rng(width)
    sums = Sums()
    expected, counts = np.zeros((5, 8), np.float32), [0] * 5
    for num in (1, 20):
        inputs = random.standard_normal((num, width, 8), np.float32)
        experts = np.array([random.permutation(4)[:3] for _ in range(num)], np.int32)
        sums.take(Product("blk.1.x_exps.weight", (1, 5), inputs, experts))
        for choice in range(3):
            for token in range(num):
                expert = experts[token, choice]
                expected[expert] += inputs[token, choice % width] ** 2
                counts[expert] += 1
    entry = sums.entries["blk.1.x_exps.weight"]
    assert np.array_equal(entry.sums, expected)
    assert entry.counts.tolist() == counts
    assert list(sums.experts()) == ["blk.1"]
    assert sums.experts()["blk.1"][4] == 0  # an expert that no token was sent to


def test_a_stack_of_matrices_has_sums_of_each() -> None:
    sums, random = Sums(), np.random.default_rng(3)
    inputs = random.standard_normal((1, 2, 6, 4), np.float32)
    sums.take(Product("blk.0.attn_k_b.weight", (1, 2), inputs, None))
    entry = sums.entries["blk.0.attn_k_b.weight"]
    assert entry.sums.shape == (1, 8)
    assert entry.counts.tolist() == [6]
    np.testing.assert_allclose(entry.sums[0], (inputs[0] ** 2).sum(1).ravel(), rtol=1e-6)


def test_numbers_that_are_none_name_the_tensor() -> None:
    rows = np.ones((1, 1, 2, 3), np.float32)
    rows[0, 0, 1, 2] = np.nan
    with pytest.raises(ModelError, match=r"no number .* in front of blk\.0\.a\.weight"):
        Sums().take(Product("blk.0.a.weight", (1, 1), rows, None))
    experts = np.array([[0], [1]], np.int32)
    with pytest.raises(ModelError, match=r"blk\.1\.b\.weight"):
        Sums().take(Product("blk.1.b.weight", (1, 2), rows[0, 0][:, None], experts))


def test_sums_of_other_shapes_are_not_added() -> None:
    sums, other = Sums(), Sums()
    rows = np.ones((1, 1, 2, 3), np.float32)
    sums.take(Product("blk.0.a.weight", (1, 1), rows, None))
    other.take(Product("blk.0.a.weight", (1, 1), rows[..., :2], None))
    with pytest.raises(InputError, match=r"blk\.0\.a\.weight has sums of 1 x 3 columns"):
        sums.add(other)
