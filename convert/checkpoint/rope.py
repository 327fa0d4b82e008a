"""Rotary position embeddings (RoPE): reads config.json, and computes Llama 3's factors."""

from __future__ import annotations

from math import pi

import numpy as np

from convert.checkpoint.hparams import Config, RopeScaling
from convert.errors import ConvertError
from convert.gguf.fields import Field, f32, string, u32

# YaRN's optional settings: key in config.json -> last part of the GGUF key.
_YARN_KEYS = {
    "extrapolation_factor": "ext_factor",
    "attention_factor": "attn_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
}


def read_rope(text: Config, default_theta: float) -> tuple[str, float, RopeScaling | None]:
    """The RoPE type, theta, and Llama 3's scaling (None for other types) of a language model."""
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
    """The metadata of linear and YaRN scaling; empty for other types. Llama 3's is a tensor."""
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
    # transformers 5 writes rope_parameters, which contains theta. transformers 4 wrote rope_scaling
    # and, outside it, rope_theta.
    stated = text.raw("rope_parameters") or text.raw("rope_scaling") or {}
    if not isinstance(stated, dict):
        raise ConvertError(f"{text.path}: `rope_parameters` is not an object")
    return Config(text.path, stated)


def _kind(rope: Config) -> str:
    return rope.string("rope_type", rope.string("type", "default")).lower()


def rope_factors(head_dim: int, theta: float, scaling: RopeScaling) -> tuple[float, ...]:
    """The factors [head_dim / 2] by which ggml divides each rotary frequency.

    A frequency that turns often within the original context is kept, one that turns rarely is
    divided by `factor`, and one in between gets a blend of the two (transformers:
    ``_compute_llama3_parameters``). In Scout low = high, so no frequency is in between.
    """
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    # Every step is rounded to float32, as in torch, so the bits are those of llama.cpp's converter.
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
