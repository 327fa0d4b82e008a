"""Llama 4 (Scout, Maverick): tensor names, transforms and metadata.

Sources: transformers ``models/llama4/configuration_llama4.py`` and ``modeling_llama4.py``;
llama.cpp ``conversion/llama.py`` (Llama4Model) and ``src/models/llama4.cpp``.
"""

from __future__ import annotations

from collections.abc import Iterator

from convert.architectures.blocks import (
    GATED,
    attention,
    experts,
    fused_experts,
    mlp,
    norms,
    outer,
    router,
    shape_fields,
)
from convert.checkpoint.hparams import Config, Llama4Hparams
from convert.checkpoint.rope import read_rope
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor
from convert.doctor.llama4 import diagnose_llama4
from convert.errors import ConvertError
from convert.gguf.fields import Field, f32, u32

NAME = "llama4"

diagnose = diagnose_llama4

_DROPPED = ("vision_model.", "multi_modal_projector.")  # they belong in an mmproj file


def canonical_name(name: str) -> str:
    """A stored name without the prefix of the multimodal class."""
    return name.replace("language_model.", "", 1)


def is_dropped(name: str) -> bool:
    """Whether a stored tensor is left out on purpose."""
    return any(part in name for part in _DROPPED)


def read_hparams(config: Config) -> Llama4Hparams:
    """Llama 4's hyperparameters, with the defaults of transformers' Llama4TextConfig."""
    text = config.text()
    n_layers = text.integer("num_hidden_layers")
    n_heads = text.integer("num_attention_heads")
    hidden_size = text.integer("hidden_size")
    moe_step = text.integer("interleave_moe_layer_step", 1)
    rope_type, rope_theta, rope_scaling = read_rope(text, 500_000.0)
    rotates, chunked = _read_layer_kinds(text, n_layers)
    has_chunks = bool(text.raw("attention_chunk_size"))
    return Llama4Hparams(
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=n_heads,
        n_kv_heads=text.integer("num_key_value_heads", n_heads),
        head_dim=text.integer("head_dim", hidden_size // n_heads),
        vocab_size=text.integer("vocab_size"),
        context_length=text.integer("max_position_embeddings"),
        norm_eps=text.number("rms_norm_eps", 1e-5),
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
    """Whether each layer has RoPE, and whether each layer attends within chunks."""
    flags = text.integers("no_rope_layers")  # despite the name, 1 means a layer with RoPE
    if flags is None:
        interval = text.integer("no_rope_layer_interval", 4)
        flags = tuple((layer + 1) % interval for layer in range(n_layers))
    rotates = tuple(bool(flag) for flag in flags[:n_layers])
    kinds = text.raw("layer_types") or [
        "chunked_attention" if flag else "full_attention" for flag in rotates
    ]
    if len(rotates) != n_layers or len(kinds) != n_layers:
        raise ConvertError(
            f"{text.path}: no_rope_layers or layer_types does not have one entry per layer"
        )
    return rotates, tuple(kind == "chunked_attention" for kind in kinds)


def fields(config: Config, hparams: Llama4Hparams) -> dict[str, Field]:
    """The metadata from which llama.cpp reads the shape of a llama4 model."""
    values = {
        **shape_fields(hparams),
        "rope.freq_base": f32(hparams.rope_theta),
        "attention.layer_norm_rms_epsilon": f32(hparams.norm_eps),
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


def tensors(hparams: Llama4Hparams, source: Source) -> Iterator[OutputTensor]:
    """Yield every tensor of the GGUF. Raises ConvertError on a missing one or a wrong shape."""
    yield from outer(hparams, source)
    for layer in range(hparams.n_layers):
        yield from _block(layer, hparams, source)


def _block(layer: int, hparams: Llama4Hparams, source: Source) -> Iterator[OutputTensor]:
    stored, out, hidden = f"model.layers.{layer}.", f"blk.{layer}.", hparams.hidden_size
    yield from norms(stored, out, hparams, source)
    yield from attention(f"{stored}self_attn.", out, hparams, source)
    stored += "feed_forward."
    if layer not in hparams.moe_layers:
        yield from mlp(stored, out, "", hparams.dense_size, hidden, source)
        return
    yield router(f"{stored}router.weight", out, hparams, source)
    yield from mlp(f"{stored}shared_expert.", out, "_shexp", hparams.expert_size, hidden, source)
    if f"{stored}experts.0.gate_proj.weight" in source:
        yield from experts(f"{stored}experts.", out, GATED, hparams, source)
    else:
        yield from fused_experts(f"{stored}experts.", out, hparams, source, transposed=True)
