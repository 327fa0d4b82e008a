"""Rotary position embeddings: what config.json says of them, and Llama 3's scaling as a tensor."""

from __future__ import annotations

from math import pi

import numpy as np

from convert.checkpoint.hparams import Config, RopeScaling
from convert.errors import ConvertError
from convert.gguf.fields import Field, f32, string, u32

# Of YaRN, what a config may state beside factor and original context: key there, key in GGUF.
_YARN_KEYS = {
    "extrapolation_factor": "ext_factor",
    "attention_factor": "attn_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
}


def read_rope(text: Config, default_theta: float) -> tuple[str, float, RopeScaling | None]:
    """Type, theta and Llama 3's scaling, as the config of a language model states them."""
    rope = stated_rope(text)
    theta = rope.number("rope_theta", text.number("rope_theta", default_theta))
    kind = _kind(rope)
    if kind != "llama3":
        return kind, theta, None
    scaling = RopeScaling(
        factor=rope.number("factor", 8.0),
        low_freq_factor=rope.number("low_freq_factor", 1.0),
        high_freq_factor=rope.number("high_freq_factor", 4.0),
        original_context=rope.integer("original_max_position_embeddings", 8192),
    )
    return kind, theta, scaling


def scaling_fields(text: Config) -> dict[str, Field]:
    """Metadata of linear and YaRN scaling. Llama 3's is a tensor, and none needs nothing."""
    rope = stated_rope(text)
    kind = _kind(rope)
    if kind not in ("linear", "yarn"):
        return {}
    fields = {"type": string(kind), "factor": f32(rope.number("factor"))}
    if kind == "yarn":
        original = rope.integer(
            "original_max_position_embeddings", text.integer("max_position_embeddings")
        )
        fields["original_context_length"] = u32(original)
        for theirs, ours in _YARN_KEYS.items():
            if rope.states(theirs):
                fields[f"yarn_{ours}"] = f32(rope.number(theirs))
    return {f"rope.scaling.{key}": value for key, value in fields.items()}


def stated_rope(text: Config) -> Config:
    """The part of a config that is about RoPE; empty if there is none."""
    # transformers 5 writes rope_parameters, with theta inside; 4 wrote rope_scaling beside it.
    stated = text.raw("rope_parameters") or text.raw("rope_scaling") or {}
    if not isinstance(stated, dict):
        raise ConvertError(f"{text.path}: `rope_parameters` is not an object")
    return Config(text.path, stated)


def _kind(rope: Config) -> str:
    return rope.string("rope_type", rope.string("type", "default")).lower()


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
