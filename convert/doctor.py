"""What makes a conversion run wrong, or less well, though every tensor is in its place.

llama.cpp hard-codes much of Llama 4 (``src/models/llama4.cpp``): a checkpoint that differs would
load and babble. That is an error here; what merely deserves a look is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator

from convert.hparams import Config, Hparams
from convert.types import Finding
from convert.vocab import Vocabulary

_CHUNK = 8192  # tokens a chunked layer attends to
_NOPE_INTERVAL = 4  # every fourth layer is global and has no RoPE
_TEMPERATURE_FLOOR = 8192
_TEMPERATURE_SCALE = 0.1
_EXPERTS_WITHOUT_QK_NORM = 128


def diagnose_llama4(config: Config, hparams: Hparams) -> Iterator[Finding]:
    """Where a Llama 4 config says other than llama.cpp's code does."""
    yield from _attention(hparams)
    yield from _temperature(hparams)
    yield from _experts(hparams)
    yield from _rope(config, hparams)
    if hparams.hidden_act != "silu":
        yield _error(f"hidden_act is {hparams.hidden_act}; llama.cpp computes silu")
    if hparams.n_layers % _NOPE_INTERVAL:
        yield _warning(
            f"{hparams.n_layers} layers are not whole groups of {_NOPE_INTERVAL}: if layers were "
            "pruned, those behind the gap have changed their kind of attention"
        )


def diagnose_vocabulary(vocab: Vocabulary) -> Iterator[Finding]:
    """What a chat needs of a vocabulary and this one lacks."""
    if vocab.chat_template is None:
        yield _warning("no chat template: chats will be rendered by a generic one")
    if "bos" not in vocab.special_ids:
        yield _warning("no beginning-of-text token is named in tokenizer_config.json")
    if not {"eos", "eot"} & vocab.special_ids.keys():
        yield _warning("no end token (eos, eot) is named: answers will not stop by themselves")


def _attention(hparams: Hparams) -> Iterator[Finding]:
    if not any(hparams.chunked_layers):
        # llama.cpp means to rotate everywhere then, but its interval still leaves out the last.
        yield _error("no layer is chunked; llama.cpp would run the last layer without RoPE")
        return
    expected = tuple((layer + 1) % _NOPE_INTERVAL != 0 for layer in range(hparams.n_layers))
    if hparams.rope_layers != expected:
        yield _error(f"no_rope_layers is not every {_NOPE_INTERVAL}th layer, as llama.cpp has it")
    if hparams.chunked_layers != expected:
        yield _error("layer_types is not three chunked layers to a global one, as llama.cpp has it")
    chunk = hparams.chunk_size
    reach = min(chunk or hparams.context_length, _CHUNK)
    if chunk != _CHUNK and hparams.context_length > reach:
        yield _error(
            f"attention_chunk_size is {chunk}; llama.cpp has {_CHUNK}, "
            f"so that contexts over {reach} tokens would run wrong"
        )


def _temperature(hparams: Hparams) -> Iterator[Finding]:
    stated = (hparams.tunes_temperature, hparams.temperature_floor, hparams.temperature_scale)
    if stated == (True, _TEMPERATURE_FLOOR, _TEMPERATURE_SCALE):
        return
    # Below its floor the tuning multiplies by 1.
    reach = min(hparams.temperature_floor, _TEMPERATURE_FLOOR) - 1
    if hparams.context_length > reach:
        yield _error(
            f"attention temperature tuning (on, floor, scale) is {stated}; llama.cpp has "
            f"{(True, _TEMPERATURE_FLOOR, _TEMPERATURE_SCALE)}, so that contexts over {reach} "
            "tokens would run wrong"
        )


def _experts(hparams: Hparams) -> Iterator[Finding]:
    assumed = hparams.n_experts != _EXPERTS_WITHOUT_QK_NORM
    if hparams.use_qk_norm != assumed:
        yield _error(
            f"use_qk_norm is {hparams.use_qk_norm}, but with {hparams.n_experts} experts llama.cpp "
            f"{'normalizes' if assumed else 'does not normalize'} queries and keys"
        )
    step = hparams.moe_step
    if hparams.moe_layers != tuple(range(step - 1, hparams.n_layers, step)):
        yield _error(f"moe_layers is not every layer of step {step}, as llama.cpp has it")


def _rope(config: Config, hparams: Hparams) -> Iterator[Finding]:
    if hparams.rope_type not in ("llama3", "default"):
        yield _error(
            f"rope_type {hparams.rope_type} is not carried over; Llama 4 has llama3 or none"
        )
    text = config.text()
    new, old = text.raw("rope_parameters"), text.raw("rope_scaling")
    if isinstance(new, dict) and isinstance(old, dict):
        clash = sorted(key for key in new.keys() & old.keys() if new[key] != old[key])
        if clash:
            yield _warning(
                f"rope_parameters and rope_scaling differ in {', '.join(clash)}; "
                "rope_parameters is taken"
            )
    scaling = hparams.rope_scaling
    is_scout = (hparams.n_layers, hparams.hidden_size, hparams.n_experts) == (48, 5120, 16)
    if is_scout and scaling is not None and scaling.factor == 8.0:
        yield _warning(
            "RoPE factor 8 is of Scout's first config; Meta corrected it to 16 with "
            "high_freq_factor 1: fetch config.json again"
        )


def _error(message: str) -> Finding:
    return Finding("error", message)


def _warning(message: str) -> Finding:
    return Finding("warning", message)
