"""Llama 4 (Scout, Maverick): names, transforms, metadata, and what llama.cpp takes for granted.

Sources: transformers ``models/llama4/configuration_llama4.py`` and ``modeling_llama4.py``;
llama.cpp ``conversion/llama.py`` (Llama4Model) and ``src/models/llama4.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import numpy as np

from convert.doctor import diagnose_llama4
from convert.errors import ConvertError
from convert.fields import Field, f32, u32
from convert.hparams import Config, Hparams, RopeScaling
from convert.source import Source
from convert.tensors import Constant, OutputTensor, matrix, stack, transposed_expert, vector

NAME = "llama4"

diagnose = diagnose_llama4

_DROPPED = ("vision_model.", "multi_modal_projector.")  # they belong into the mmproj file


def canonical_name(name: str) -> str:
    """A stored name without the prefix that the multimodal class puts before it."""
    return name.replace("language_model.", "", 1)


def is_dropped(name: str) -> bool:
    """Whether a stored tensor is left out on purpose."""
    return any(part in name for part in _DROPPED)


def read_hparams(config: Config) -> Hparams:
    """Llama 4's hyperparameters, with the defaults of transformers' Llama4TextConfig."""
    text = config.text()
    n_layers = text.integer("num_hidden_layers")
    n_heads = text.integer("num_attention_heads")
    hidden_size = text.integer("hidden_size")
    moe_step = text.integer("interleave_moe_layer_step", 1)
    rope_type, rope_theta, rope_scaling = _read_rope(text)
    rotates, chunked = _read_layer_kinds(text, n_layers)
    has_chunks = bool(text.raw("attention_chunk_size"))
    return Hparams(
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=text.integer("num_key_value_heads", n_heads),
        head_dim=text.integer("head_dim", hidden_size // n_heads),
        vocab_size=text.integer("vocab_size"),
        context_length=text.integer("max_position_embeddings"),
        rms_eps=text.number("rms_norm_eps", 1e-5),
        hidden_act=text.string("hidden_act", "silu"),
        tie_embeddings=text.flag("tie_word_embeddings", False),
        dense_size=text.integer("intermediate_size_mlp"),
        n_experts=text.integer("num_local_experts"),
        n_experts_used=text.integer("num_experts_per_tok", 1),
        expert_size=text.integer("intermediate_size"),
        moe_step=moe_step,
        moe_layers=text.integers("moe_layers") or tuple(range(moe_step - 1, n_layers, moe_step)),
        rope_type=rope_type,
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        rope_layers=rotates,
        chunked_layers=chunked,
        chunk_size=text.integer("attention_chunk_size") if has_chunks else None,
        use_qk_norm=text.flag("use_qk_norm", True),
        tunes_temperature=text.flag("attn_temperature_tuning", True),
        temperature_floor=text.integer("floor_scale", 8192),
        temperature_scale=text.number("attn_scale", 0.1),
    )


def _read_layer_kinds(text: Config, n_layers: int) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
    """Of each layer, whether it rotates and whether it attends in chunks."""
    flags = text.integers("no_rope_layers")  # in spite of its name, 1 is for layers with RoPE
    if flags is None:
        interval = text.integer("no_rope_layer_interval", 4)
        flags = tuple((layer + 1) % interval for layer in range(n_layers))
    rotates = tuple(bool(flag) for flag in flags[:n_layers])
    kinds = text.raw("layer_types") or [
        "chunked_attention" if flag else "full_attention" for flag in rotates
    ]
    if len(rotates) != n_layers or len(kinds) != n_layers:
        raise ConvertError(f"{text.path}: no_rope_layers or layer_types is not one entry a layer")
    return rotates, tuple(kind == "chunked_attention" for kind in kinds)


def _read_rope(text: Config) -> tuple[str, float, RopeScaling | None]:
    # transformers 5 writes rope_parameters, with theta inside; 4 wrote rope_scaling beside it.
    stated = text.raw("rope_parameters") or text.raw("rope_scaling") or {}
    if not isinstance(stated, dict):
        raise ConvertError(f"{text.path}: `rope_parameters` is not an object")
    rope = Config(text.path, stated)
    theta = rope.number("rope_theta", text.number("rope_theta", 500_000.0))
    kind = rope.string("rope_type", rope.string("type", "default")).lower()
    if kind != "llama3":
        return kind, theta, None
    scaling = RopeScaling(
        factor=rope.number("factor", 8.0),
        low_freq_factor=rope.number("low_freq_factor", 1.0),
        high_freq_factor=rope.number("high_freq_factor", 4.0),
        original_context=rope.integer("original_max_position_embeddings", 8192),
    )
    return kind, theta, scaling


def fields(hparams: Hparams) -> dict[str, Field]:
    """The metadata llama.cpp reads a llama4 model's shape from."""
    values = {
        "block_count": u32(hparams.n_layers),
        "context_length": u32(hparams.context_length),
        "embedding_length": u32(hparams.hidden_size),
        "feed_forward_length": u32(hparams.dense_size),
        "attention.head_count": u32(hparams.n_heads),
        "attention.head_count_kv": u32(hparams.n_kv_heads),
        "rope.freq_base": f32(hparams.rope_theta),
        "attention.layer_norm_rms_epsilon": f32(hparams.rms_eps),
        "expert_count": u32(hparams.n_experts),
        "expert_used_count": u32(hparams.n_experts_used),
        "attention.key_length": u32(hparams.head_dim),
        "attention.value_length": u32(hparams.head_dim),
        "vocab_size": u32(hparams.vocab_size),
        "rope.dimension_count": u32(hparams.head_dim),
        "interleave_moe_layer_step": u32(hparams.moe_step),
        "expert_feed_forward_length": u32(hparams.expert_size),
    }
    if not any(hparams.chunked_layers):
        values["attention.sliding_window"] = u32(0)
    return {f"{NAME}.{key}": value for key, value in values.items()}


def tensors(hparams: Hparams, source: Source) -> Iterator[OutputTensor]:
    """Every tensor of the GGUF. Raises ConvertError on a missing one or a wrong shape."""
    hidden, vocab = hparams.hidden_size, hparams.vocab_size
    yield matrix("token_embd.weight", source.matrix("model.embed_tokens.weight", vocab, hidden))
    yield vector("output_norm.weight", source.vector("model.norm.weight", hidden))
    # A tied checkpoint may repeat the embeddings; llama.cpp reuses them when it does not.
    if not hparams.tie_embeddings or "lm_head.weight" in source:
        yield matrix("output.weight", source.matrix("lm_head.weight", vocab, hidden))
    if hparams.rope_scaling is not None:
        factors = rope_factors(hparams.head_dim, hparams.rope_theta, hparams.rope_scaling)
        yield OutputTensor("rope_freqs.weight", (len(factors),), (Constant(factors),))
    for layer in range(hparams.n_layers):
        yield from _block(layer, hparams, source)


def _block(layer: int, hparams: Hparams, source: Source) -> Iterator[OutputTensor]:
    stored, out = f"model.layers.{layer}.", f"blk.{layer}."
    hidden = hparams.hidden_size
    q_size, kv_size = hparams.n_heads * hparams.head_dim, hparams.n_kv_heads * hparams.head_dim
    for name, theirs in (("attn", "input_layernorm"), ("ffn", "post_attention_layernorm")):
        view = source.vector(f"{stored}{theirs}.weight", hidden)
        yield vector(f"{out}{name}_norm.weight", view)
    for name, theirs, n_rows, n_cols in (
        ("q", "q", q_size, hidden),
        ("k", "k", kv_size, hidden),
        ("v", "v", kv_size, hidden),
        ("output", "o", hidden, q_size),
    ):
        view = source.matrix(f"{stored}self_attn.{theirs}_proj.weight", n_rows, n_cols)
        yield matrix(f"{out}attn_{name}.weight", view)
    stored += "feed_forward."
    if layer not in hparams.moe_layers:
        yield from _mlp(stored, out, "", hparams.dense_size, hidden, source)
        return
    router = source.matrix(f"{stored}router.weight", hparams.n_experts, hidden)
    yield matrix(f"{out}ffn_gate_inp.weight", router)
    yield from _mlp(f"{stored}shared_expert.", out, "_shexp", hparams.expert_size, hidden, source)
    yield from _experts(f"{stored}experts.", out, hparams, source)


def _mlp(
    stored: str, out: str, suffix: str, width: int, hidden: int, source: Source
) -> Iterator[OutputTensor]:
    for kind, n_rows, n_cols in _mlp_shapes(width, hidden):
        view = source.matrix(f"{stored}{kind}_proj.weight", n_rows, n_cols)
        yield matrix(f"{out}ffn_{kind}{suffix}.weight", view)


def _experts(stored: str, out: str, hparams: Hparams, source: Source) -> Iterator[OutputTensor]:
    """The routed experts: fused and transposed as Meta stores them, or one by one and upright."""
    n, width, hidden = hparams.n_experts, hparams.expert_size, hparams.hidden_size
    if f"{stored}0.gate_proj.weight" in source:
        views = {
            kind: [
                source.matrix(f"{stored}{expert}.{kind}_proj.weight", n_rows, n_cols)
                for expert in range(n)
            ]
            for kind, n_rows, n_cols in _mlp_shapes(width, hidden)
        }
    else:
        gate_up = source.experts(f"{stored}gate_up_proj", n, hidden, 2 * width)
        down = source.experts(f"{stored}down_proj", n, width, hidden)
        views = {
            "gate": [transposed_expert(gate_up, expert, 0, width) for expert in range(n)],
            "up": [transposed_expert(gate_up, expert, width, width) for expert in range(n)],
            "down": [transposed_expert(down, expert, 0, hidden) for expert in range(n)],
        }
    for kind, matrices in views.items():
        yield stack(f"{out}ffn_{kind}_exps.weight", matrices)


def _mlp_shapes(width: int, hidden: int) -> tuple[tuple[str, int, int], ...]:
    return ("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)


def rope_factors(head_dim: int, theta: float, scaling: RopeScaling) -> tuple[float, ...]:
    """What ggml divides each rotary frequency by; `head_dim / 2` of them.

    Frequencies that turn often within the original context are kept, those that turn rarely are
    slowed by `factor`, those between are blended (transformers: ``_compute_llama3_parameters``).
    Scout has low = high, so that nothing lies between.
    """
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    # In float32 step by step, as torch does it: so the bits are those of llama.cpp's converter.
    exponents = (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)).astype(float)
    wavelengths = np.float32(2 * pi) / (1 / (theta**exponents).astype(np.float32))
    turns = np.float32(scaling.original_context) / wavelengths
    kept = ((turns - np.float32(low)) / np.float32(high - low or 1)).clip(0, 1)
    blended = 1 / ((1 - kept) / np.float32(scaling.factor) + kept)
    factors = np.select(
        [
            wavelengths < scaling.original_context / high,
            wavelengths > scaling.original_context / low,
        ],
        [np.float32(1), np.float32(scaling.factor)],
        blended,
    )
    return tuple(factors.tolist())
