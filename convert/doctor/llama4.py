"""Finds where a Llama 4 checkpoint differs from what llama.cpp hard-codes.

llama.cpp hard-codes much of Llama 4 (``src/models/llama4.cpp``). A checkpoint that differs would
load but give wrong results.
"""

from __future__ import annotations

from collections.abc import Iterator

from convert.checkpoint.hparams import Config, Llama4Hparams
from convert.doctor.checkpoint import error, rope_clash, warning
from convert.types import Finding

_CHUNK = 8192  # tokens a chunked layer attends to
_NOPE_INTERVAL = 4  # every fourth layer is global and has no RoPE
_TEMPERATURE_FLOOR = 8192
_TEMPERATURE_SCALE = 0.1
_EXPERTS_WITHOUT_QK_NORM = 128
# Scout and Maverick: hidden size, number of layers, and numbers of experts.
_PUBLISHED_WIDTH = 5120
_PUBLISHED_LAYERS = 48
_PUBLISHED_EXPERTS = (16, 128)
_LONGEST_WITHOUT_SCALING = 1 << 20  # tokens; Maverick's context


def diagnose_llama4(config: Config, hparams: Llama4Hparams) -> Iterator[Finding]:
    """Yield where a Llama 4 config differs from llama.cpp's code."""
    yield from _attention(hparams)
    yield from _temperature(hparams)
    yield from _experts(hparams)
    yield from _rope(config, hparams)
    if hparams.hidden_act != "silu":
        yield error(f"hidden_act is {hparams.hidden_act}; llama.cpp computes silu")
    yield from _pruning(hparams)


def _pruning(hparams: Llama4Hparams) -> Iterator[Finding]:
    """Warn if layers or experts seem to have been pruned.

    llama.cpp derives a layer's kind of attention from its index, which pruning changes.
    """
    n_layers, n_experts = hparams.n_layers, hparams.n_experts
    is_published = hparams.hidden_size == _PUBLISHED_WIDTH
    if n_layers % _NOPE_INTERVAL:
        yield warning(
            f"{n_layers} layers are not whole groups of {_NOPE_INTERVAL}: if layers were "
            "pruned, the layers after them now have another kind of attention"
        )
    elif is_published and n_layers != _PUBLISHED_LAYERS:
        yield warning(
            f"{n_layers} layers where Llama 4 has {_PUBLISHED_LAYERS}: if layers were not pruned "
            f"in whole groups of {_NOPE_INTERVAL}, the others now have another kind of attention"
        )
    if is_published and n_experts not in _PUBLISHED_EXPERTS:
        yield warning(
            f"{n_experts} experts where Llama 4 has {' or '.join(map(str, _PUBLISHED_EXPERTS))}: "
            "if experts were pruned, compare the answers with the original's"
        )
    if hparams.n_experts_used > n_experts:
        yield error(f"{hparams.n_experts_used} experts a token, but there are only {n_experts}")


def _attention(hparams: Llama4Hparams) -> Iterator[Finding]:
    if not any(hparams.chunked_layers):
        # llama.cpp intends RoPE in every layer then, but its code still leaves out the last one.
        yield error("no layer is chunked; llama.cpp would run the last layer without RoPE")
        return
    expected = tuple((layer + 1) % _NOPE_INTERVAL != 0 for layer in range(hparams.n_layers))
    if hparams.rope_layers != expected:
        yield error(f"no_rope_layers is not every {_NOPE_INTERVAL}th layer, as llama.cpp assumes")
    if hparams.chunked_layers != expected:
        yield error("layer_types is not 3 chunked layers and 1 global one, as llama.cpp assumes")
    chunk = hparams.chunk_size
    reach = min(chunk or hparams.context_length, _CHUNK)
    if chunk != _CHUNK and hparams.context_length > reach:
        yield error(
            f"attention_chunk_size is {chunk}; llama.cpp uses {_CHUNK}, "
            f"so contexts over {reach} tokens would run wrong"
        )


def _temperature(hparams: Llama4Hparams) -> Iterator[Finding]:
    stated = (hparams.tunes_temperature, hparams.temperature_floor, hparams.temperature_scale)
    if stated == (True, _TEMPERATURE_FLOOR, _TEMPERATURE_SCALE):
        return
    # Below its floor the tuning multiplies by 1.
    reach = min(hparams.temperature_floor, _TEMPERATURE_FLOOR) - 1
    if hparams.context_length > reach:
        yield error(
            f"attention temperature tuning (on, floor, scale) is {stated}; llama.cpp uses "
            f"{(True, _TEMPERATURE_FLOOR, _TEMPERATURE_SCALE)}, so contexts over {reach} "
            "tokens would run wrong"
        )


def _experts(hparams: Llama4Hparams) -> Iterator[Finding]:
    assumed = hparams.n_experts != _EXPERTS_WITHOUT_QK_NORM
    if hparams.use_qk_norm != assumed:
        yield error(
            f"use_qk_norm is {hparams.use_qk_norm}, but with {hparams.n_experts} experts llama.cpp "
            f"{'normalizes' if assumed else 'does not normalize'} queries and keys"
        )
    step = hparams.moe_step
    if hparams.moe_layers != tuple(range(step - 1, hparams.n_layers, step)):
        yield error(f"moe_layers is not one layer in every {step}, as llama.cpp assumes")


def _rope(config: Config, hparams: Llama4Hparams) -> Iterator[Finding]:
    if hparams.rope_type not in ("llama3", "default"):
        yield error(f"rope_type {hparams.rope_type} is not supported; Llama 4 has llama3 or none")
    yield from rope_clash(config.text())
    if hparams.rope_type == "default" and hparams.context_length > _LONGEST_WITHOUT_SCALING:
        yield warning(
            f"a context of {hparams.context_length:,} tokens, but no RoPE scaling: the config is "
            "outdated or incomplete; fetch config.json again"
        )
    scaling = hparams.rope_scaling
    is_scout = (hparams.n_layers, hparams.hidden_size, hparams.n_experts) == (48, 5120, 16)
    if is_scout and scaling is not None and scaling.factor == 8.0:
        yield warning(
            "RoPE factor 8 is from Scout's first config, which Meta corrected to 16 with "
            "high_freq_factor 1; fetch config.json again"
        )
