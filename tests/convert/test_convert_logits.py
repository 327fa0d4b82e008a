"""Converted models give the same logits as transformers, in float32.

golden/make_logits.py makes the goldens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from checkpoints import fingerprint, write_checkpoint
from conftest import GOLDEN, ROOT
from decoders import KINDS, write_decoder
from numpy.typing import NDArray

import convert

DEMO = ROOT / "l4cli" / "demo" / "checkpoint"

_silence = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


def llama_cpp_logits(path: Path, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    """Logits [n, vocab] of every position, computed in float32 throughout."""
    llama_cpp.llama_log_set(_silence, None)
    model = llama_cpp.llama_model_load_from_file(
        str(path).encode(), llama_cpp.llama_model_default_params()
    )
    assert model is not None
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.type_k = params.type_v = 0
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params)
    assert context is not None
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    assert llama_cpp.llama_decode(context, batch) == 0
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(tokens), n_vocab))
    copy = logits.copy()
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return copy


def tiny(kind: str) -> Callable[[Path], Path]:
    return lambda path: write_checkpoint(path / "model", kind=kind)


def decoder(kind: str) -> Callable[[Path], Path]:
    return lambda path: write_decoder(path / "model", kind)


def demo(_: Path) -> Path:
    if not (DEMO / "config.json").is_file():
        pytest.skip("the demo checkpoint is not there yet")
    return DEMO


@pytest.mark.parametrize(
    ("name", "make", "argument"),
    [
        ("scout", tiny("scout"), ""),
        ("maverick", tiny("maverick"), ""),
        ("demo", demo, " l4cli/demo/checkpoint"),
        *((kind, decoder(kind), "") for kind in KINDS),
    ],
    ids=["scout", "maverick", "demo", *KINDS],
)
def test_logits_equal_transformers(
    name: str, make: Callable[[Path], Path], argument: str, tmp_path: Path
) -> None:
    checkpoint = make(tmp_path)
    golden = load_golden(name, fingerprint(checkpoint), argument)
    out = tmp_path / "model.gguf"
    convert.convert(convert.plan(checkpoint, "F32"), out, overwrite=True)
    logits, expected = llama_cpp_logits(out, golden["tokens"]), golden["logits"]
    assert logits.shape == expected.shape
    errors = np.linalg.norm(logits - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert errors.max() <= 1e-4  # measured: 1e-6; a float16 KV cache alone costs 5e-4
    assert np.array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


def load_golden(name: str, of: str, argument: str) -> Mapping[str, NDArray[Any]]:
    """Load a golden. Fail if it was not made of the checkpoint with the fingerprint `of`."""
    path = GOLDEN / f"logits_{name}.npz"
    how = f"make it: python tests/golden/make_logits.py{argument}"
    if not path.is_file():
        pytest.fail(f"there is no {path.name}; {how}")
    golden: Mapping[str, NDArray[Any]] = np.load(path)
    if golden["fingerprint"] != of:
        pytest.fail(f"{path.name} was not made of the present checkpoint; {how}")
    return golden
