"""What makes a conversion run wrong, or less well, though every tensor is in its place.

What would load and babble is an error, what merely deserves a look a warning. Of Llama 4, which
llama.cpp hard-codes much of, more is known: see `llama4.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import log

from convert.checkpoint.checkpoint import Checkpoint
from convert.checkpoint.hparams import Config, Hparams
from convert.checkpoint.rope import stated_rope
from convert.tokenizer.vocab import Vocabulary
from convert.types import Finding

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # that reach the GGUF of Llama's kin

# Ends that llama.cpp knows by their text (src/llama-vocab.cpp).
_KNOWN_ENDS = frozenset(
    ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
     "<end_of_turn>", "<EOT>", "_<EOT>", "[EOT]", "<end_of_utterance>")
)  # fmt: skip
_CONTROL_TEXT = re.compile(r"<\|[a-z0-9_]+\|>")


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
    if hparams.head_dim % 2:
        yield error(f"heads are {hparams.head_dim} wide; RoPE rotates pairs")
    if config.number("partial_rotary_factor", 1.0) != 1:
        yield error("partial_rotary_factor is not 1; llama.cpp rotates whole heads")
    if hparams.n_experts_used > hparams.n_experts:
        yield error(
            f"{hparams.n_experts_used} experts a token, but there are only {hparams.n_experts}"
        )
    if hparams.rope_type == "yarn":
        yield from _yarn(stated_rope(config))
    yield from rope_clash(config)


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
    if not is_on or not config.raw("sliding_window"):
        return
    window = config.integer("sliding_window")
    if window < config.integer("max_position_embeddings"):
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
        yield warning("no chat template: right for a base model, but nobody can chat with it")
    else:
        yield from template_tokens(vocab.chat_template, vocab.tokens.texts)
    if vocab.left_older_template:
        yield warning(
            "chat_template.jinja is taken; tokenizer_config.json has another, older chat template"
        )
    for kind, stated in vocab.unresolved.items():
        yield warning(f"the {kind} token is stated as {stated}, which the vocabulary has not")
    if "bos" not in vocab.special_ids:
        if vocab.adds.get("bos"):
            yield error("a beginning-of-text token is put before every text, but which is not said")
        else:
            yield warning("no beginning-of-text token is named in tokenizer_config.json")
    if not {"eos", "eot"} & vocab.special_ids.keys():
        yield warning("no end token (eos, eot) is named: answers will not stop by themselves")
    known = {vocab.special_ids.get(kind) for kind in ("eos", "eot", "eom")}
    for id_ in vocab.ends:
        if id_ not in known and vocab.tokens.texts[id_] not in _KNOWN_ENDS:
            yield warning(
                f"answers end on {vocab.tokens.texts[id_]} too, by generation_config.json or "
                "config.json; llama.cpp does not take it for an end, so stop on it by hand"
            )


def template_tokens(template: str, texts: list[str]) -> Iterator[Finding]:
    """Control tokens that the chat template has and the vocabulary has not."""
    absent = sorted(set(_CONTROL_TEXT.findall(template)) - set(texts))
    if absent:
        shown = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        yield warning(f"the chat template uses {shown}, which the vocabulary has not")


def rope_clash(text: Config) -> Iterator[Finding]:
    """Where a config states RoPE twice, as transformers 4 does and as 5 does, and differently."""
    new, old = text.raw("rope_parameters"), text.raw("rope_scaling")
    if not isinstance(new, dict):
        return
    others = {"rope_theta": text.raw("rope_theta")} | (old if isinstance(old, dict) else {})
    clash = sorted(key for key in new if others.get(key) not in (None, new[key]))
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
