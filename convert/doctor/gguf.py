"""Finds what makes a GGUF run wrong, or less well than it could, although llama.cpp loads it.

A header states less than a checkpoint does. A value that it does not state is assumed to be the one
that llama.cpp computes with.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from convert.checkpoint.hparams import Config, Llama4Hparams, RopeScaling
from convert.doctor.checkpoint import error, template_tokens, warning
from convert.doctor.llama4 import diagnose_llama4
from convert.errors import ConvertError
from convert.gguf.array import GGUFArray
from convert.gguf.model import GGUFModel
from convert.types import Finding

_MAX_LAYERS = 512  # LLAMA_MAX_LAYERS of llama.cpp
_CHUNK = 8192  # tokens in a chunk of Llama 4; llama.cpp hard-codes it
_ENDS = ("eos", "eot", "eom")
_BLOCK = re.compile(r"blk\.(\d+)\.")


def diagnose_gguf(model: GGUFModel) -> Iterator[Finding]:
    """Yield errors and warnings about a GGUF's metadata and tensors."""
    yield from _vocabulary(model)
    yield from _rope(model)
    if not 1 <= _number(model, "block_count") <= _MAX_LAYERS:
        return  # gguf/vetting.py reports this
    yield from _layers(model)
    if model.fields.get("general.architecture") == "llama4":
        yield from _llama4(model)


def _number(model: GGUFModel, key: str, default: int = 0) -> int:
    """A number of the architecture; the largest if there is one per layer."""
    value = model.fields.get(f"{model.fields.get('general.architecture')}.{key}", default)
    if isinstance(value, GGUFArray):
        value = max(value, default=default)
    return value if type(value) is int else default


def _layers(model: GGUFModel) -> Iterator[Finding]:
    n_layers = _number(model, "block_count")
    layers = {int(match[1]) for name in model.tensors if (match := _BLOCK.match(name))}
    if layers and layers != set(range(n_layers)):
        yield error(f"block_count is {n_layers}, but there are tensors of {len(layers)} layers")
    embedding = model.tensors.get("token_embd.weight")
    tokens = model.fields.get("tokenizer.ggml.tokens")
    if embedding is None:
        yield error("there is no token_embd.weight: this is not a whole model")
    elif isinstance(tokens, GGUFArray) and embedding.shape[1:] != (len(tokens),):
        yield error(f"token_embd.weight has {embedding.shape[1]:,} rows for {len(tokens):,} tokens")


def _vocabulary(model: GGUFModel) -> Iterator[Finding]:
    fields = model.fields
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    tokens = fields.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, GGUFArray) or tokens.kind != "string":
        return
    if kind == "gpt2" and pre in (None, "", "default"):
        yield warning(
            f"its pre-tokenizer is {pre or 'not named'}: text is split differently than in "
            "training, which takes more tokens and costs quality; convert it again"
        )
    yield from _merges(fields.get("tokenizer.ggml.merges"))
    texts = [raw.decode("utf-8", errors="replace") for raw in tokens.byte_strings()]
    try:
        list(tokens)
    except ConvertError as problem:
        yield warning(str(problem).removeprefix(f"{model.files[0]}: "))
    template = fields.get("tokenizer.chat_template")
    if template is None:
        yield warning("no chat template: normal for a base model, but chatting needs one")
    elif isinstance(template, str):
        yield from template_tokens(template, texts)
    yield from _special(model, len(tokens))


def _merges(merges: Any) -> Iterator[Finding]:
    if not isinstance(merges, GGUFArray) or merges.kind != "string":
        return
    n_odd = sum(raw.find(b" ", 1) < 0 for raw in merges.byte_strings())
    if n_odd:
        yield error(f"{n_odd:,} of {len(merges):,} merges are not pairs; convert it again")


def _special(model: GGUFModel, n_tokens: int) -> Iterator[Finding]:
    stated = {
        key.removeprefix("tokenizer.ggml.").removesuffix("_token_id"): value
        for key, value in model.fields.items()
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id")
    }
    for kind, id_ in stated.items():
        if type(id_) is not int or not 0 <= id_ < n_tokens:
            shown = reprlib.repr(id_)
            yield warning(f"the {kind} token is {shown}, but there are {n_tokens:,} tokens")
    if not any(kind in stated for kind in _ENDS):
        yield warning("no end token (eos, eot) is named: answers may not stop by themselves")
    if model.fields.get("tokenizer.ggml.add_bos_token") is True and "bos" not in stated:
        yield error("every text is to begin with a beginning-of-text token, but none is named")


def _rope(model: GGUFModel) -> Iterator[Finding]:
    architecture = model.fields.get("general.architecture")
    base = model.fields.get(f"{architecture}.rope.freq_base")
    if isinstance(base, float) and not 0 < base < math.inf:
        yield error(f"rope.freq_base is {base}, not a positive finite number")


def _llama4(model: GGUFModel) -> Iterator[Finding]:
    """Yield what `diagnose_llama4` finds in a checkpoint that would convert to this file."""
    path, n_layers = model.files[0], _number(model, "block_count")
    n_heads = _number(model, "attention.head_count", 1) or 1
    hidden_size = _number(model, "embedding_length")
    head_dim = _number(model, "attention.key_length", hidden_size // n_heads)
    n_experts = _number(model, "expert_count")
    is_full = model.fields.get("llama4.attention.sliding_window") == 0
    chunked = tuple(not is_full and (layer + 1) % 4 != 0 for layer in range(n_layers))
    moe_layers = sorted(
        int(match[1])
        for name in model.tensors
        if name.endswith("ffn_gate_inp.weight") and (match := _BLOCK.match(name))
    )
    factor = _largest_factor(model)
    scaling = RopeScaling(factor, 1.0, 1.0, _CHUNK) if factor is not None else None
    yield from diagnose_llama4(
        Config(path, {}),
        Llama4Hparams(
            n_layers=n_layers,
            hidden_size=hidden_size,
            n_heads=n_heads,
            n_kv_heads=_number(model, "attention.head_count_kv", n_heads),
            head_dim=head_dim,
            vocab_size=_number(model, "vocab_size"),
            context_length=_number(model, "context_length"),
            norm_eps=1e-5,
            hidden_act="silu",
            tie_embeddings="output.weight" not in model.tensors,
            dense_size=_number(model, "feed_forward_length"),
            n_experts=n_experts,
            n_experts_used=_number(model, "expert_used_count", 1),
            expert_size=_number(model, "expert_feed_forward_length"),
            moe_step=_number(model, "interleave_moe_layer_step", 1) or 1,
            moe_layers=tuple(moe_layers),
            rope_type="default" if scaling is None else "llama3",
            rope_theta=0.0,
            rope_scaling=scaling,
            rope_layers=chunked,
            chunked_layers=chunked,
            chunk_size=_CHUNK,
            use_qk_norm=n_experts != 128,
            tunes_temperature=True,
            temperature_floor=8192,
            temperature_scale=0.1,
        ),
    )


def _largest_factor(model: GGUFModel) -> float | None:
    """Llama 3's scaling factor: the divisor of the slowest frequency. None without such scaling."""
    tensor = model.tensors.get("rope_freqs.weight")
    if tensor is None or tensor.qtype != "F32":
        return None
    factors = np.fromfile(tensor.path, "<f4", tensor.n_values, offset=tensor.offset)
    return float(factors.max(initial=0.0))
