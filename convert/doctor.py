"""What makes a conversion run wrong, or less well, though every tensor is in its place.

llama.cpp hard-codes much of Llama 4 (``src/models/llama4.cpp``): a checkpoint that differs would
load and babble. That is an error here; what merely deserves a look is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log

from convert.checkpoint import Checkpoint
from convert.hparams import Config, Hparams, Llama4Hparams
from convert.rope import stated_rope
from convert.types import Finding
from convert.vocab import Vocabulary

_CHUNK = 8192  # tokens a chunked layer attends to
_NOPE_INTERVAL = 4  # every fourth layer is global and has no RoPE
_TEMPERATURE_FLOOR = 8192
_TEMPERATURE_SCALE = 0.1
_EXPERTS_WITHOUT_QK_NORM = 128
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # that reach the GGUF of Llama's kin


def diagnose_llama4(config: Config, hparams: Llama4Hparams) -> Iterator[Finding]:
    """Where a Llama 4 config says other than llama.cpp's code does."""
    yield from _attention(hparams)
    yield from _temperature(hparams)
    yield from _experts(hparams)
    yield from _rope(config, hparams)
    if hparams.hidden_act != "silu":
        yield error(f"hidden_act is {hparams.hidden_act}; llama.cpp computes silu")
    if hparams.n_layers % _NOPE_INTERVAL:
        yield warning(
            f"{hparams.n_layers} layers are not whole groups of {_NOPE_INTERVAL}: if layers were "
            "pruned, those behind the gap have changed their kind of attention"
        )


def diagnose_decoder(config: Config, hparams: Hparams) -> Iterator[Finding]:
    """Where the config of one of Llama's kin asks for what is not carried over."""
    if hparams.hidden_act not in ("silu", "swish"):
        yield error(f"hidden_act is {hparams.hidden_act}; llama.cpp computes silu")
    if hparams.rope_type not in _ROPE_TYPES:
        yield error(
            f"rope_type {hparams.rope_type} is not carried over; {', '.join(_ROPE_TYPES)} are"
        )
    for key in ("attention_bias", "mlp_bias"):
        if config.flag(key, False):
            yield error(f"{key} is true; such biases are not carried over")
    if hparams.rope_type == "yarn":
        yield from _yarn(stated_rope(config))
    yield from _rope_clash(config)


def _yarn(rope: Config) -> Iterator[Finding]:
    """YaRN's finer settings, which llama.cpp reads for other models than Llama's kin alone."""
    usual = {"beta_fast": 32.0, "beta_slow": 1.0}
    usual["attention_factor"] = 1 + 0.1 * log(max(rope.number("factor"), 1.0))
    for key, value in usual.items():
        stated = rope.number(key, value)
        if abs(stated - value) > 1e-4:
            yield error(f"YaRN's {key} is {stated:g}; llama.cpp computes with {value:.4g}")


def warn_of_window(config: Config, *, is_on: bool) -> Iterator[Finding]:
    """A sliding window that llama.cpp does not have, if there is one and contexts outgrow it."""
    window = config.raw("sliding_window")
    if is_on and window and window < config.integer("max_position_embeddings"):
        yield warning(
            f"sliding_window is {window}; llama.cpp attends to everything, so that contexts over "
            f"{window} tokens see more than the model was trained on"
        )


def diagnose_sources(checkpoint: Checkpoint, vocab: Vocabulary | None) -> Iterator[Finding]:
    """What is not there to plan from, and what a chat needs of the vocabulary."""
    if checkpoint.is_outline:
        yield warning("sizes are from config.json and the index: the shards are absent")
    if vocab is not None:
        yield from diagnose_vocabulary(vocab)
    else:
        yield warning("no tokenizer is there: its metadata, some megabytes, is not counted")


def diagnose_vocabulary(vocab: Vocabulary) -> Iterator[Finding]:
    """What a chat needs of a vocabulary and this one lacks."""
    if vocab.chat_template is None:
        yield warning("no chat template: chats will be rendered by a generic one")
    if "bos" not in vocab.special_ids:
        yield warning("no beginning-of-text token is named in tokenizer_config.json")
    if not {"eos", "eot"} & vocab.special_ids.keys():
        yield warning("no end token (eos, eot) is named: answers will not stop by themselves")


def _attention(hparams: Llama4Hparams) -> Iterator[Finding]:
    if not any(hparams.chunked_layers):
        # llama.cpp means to rotate everywhere then, but its interval still leaves out the last.
        yield error("no layer is chunked; llama.cpp would run the last layer without RoPE")
        return
    expected = tuple((layer + 1) % _NOPE_INTERVAL != 0 for layer in range(hparams.n_layers))
    if hparams.rope_layers != expected:
        yield error(f"no_rope_layers is not every {_NOPE_INTERVAL}th layer, as llama.cpp has it")
    if hparams.chunked_layers != expected:
        yield error("layer_types is not three chunked layers to a global one, as llama.cpp has it")
    chunk = hparams.chunk_size
    reach = min(chunk or hparams.context_length, _CHUNK)
    if chunk != _CHUNK and hparams.context_length > reach:
        yield error(
            f"attention_chunk_size is {chunk}; llama.cpp has {_CHUNK}, "
            f"so that contexts over {reach} tokens would run wrong"
        )


def _temperature(hparams: Llama4Hparams) -> Iterator[Finding]:
    stated = (hparams.tunes_temperature, hparams.temperature_floor, hparams.temperature_scale)
    if stated == (True, _TEMPERATURE_FLOOR, _TEMPERATURE_SCALE):
        return
    # Below its floor the tuning multiplies by 1.
    reach = min(hparams.temperature_floor, _TEMPERATURE_FLOOR) - 1
    if hparams.context_length > reach:
        yield error(
            f"attention temperature tuning (on, floor, scale) is {stated}; llama.cpp has "
            f"{(True, _TEMPERATURE_FLOOR, _TEMPERATURE_SCALE)}, so that contexts over {reach} "
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
        yield error(f"moe_layers is not every layer of step {step}, as llama.cpp has it")


def _rope(config: Config, hparams: Llama4Hparams) -> Iterator[Finding]:
    if hparams.rope_type not in ("llama3", "default"):
        yield error(
            f"rope_type {hparams.rope_type} is not carried over; Llama 4 has llama3 or none"
        )
    yield from _rope_clash(config.text())
    scaling = hparams.rope_scaling
    is_scout = (hparams.n_layers, hparams.hidden_size, hparams.n_experts) == (48, 5120, 16)
    if is_scout and scaling is not None and scaling.factor == 8.0:
        yield warning(
            "RoPE factor 8 is of Scout's first config; Meta corrected it to 16 with "
            "high_freq_factor 1: fetch config.json again"
        )


def _rope_clash(text: Config) -> Iterator[Finding]:
    new, old = text.raw("rope_parameters"), text.raw("rope_scaling")
    if isinstance(new, dict) and isinstance(old, dict):
        clash = sorted(key for key in new.keys() & old.keys() if new[key] != old[key])
        if clash:
            yield warning(
                f"rope_parameters and rope_scaling differ in {', '.join(clash)}; "
                "rope_parameters is taken"
            )


def error(message: str) -> Finding:
    """It would run wrong."""
    return Finding("error", message)


def warning(message: str) -> Finding:
    """It runs, but deserves a look."""
    return Finding("warning", message)
