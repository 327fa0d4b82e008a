"""Finds what would make a converted checkpoint run wrong, or less well than it could.

An error means that llama.cpp would load the model but compute something else; a warning means that
the user should know. `llama4.py` checks more for Llama 4, for which llama.cpp hard-codes much.
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

_ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # the types that a `Decoder` converts

# Tokens that llama.cpp treats as EOG because of their text (src/llama-vocab.cpp).
_KNOWN_ENDS = frozenset(
    ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
     "<end_of_turn>", "<EOT>", "_<EOT>", "[EOT]", "<end_of_utterance>")
)  # fmt: skip
_CONTROL_TEXT = re.compile(r"<\|[a-z0-9_]+\|>")


def diagnose_decoder(config: Config, hparams: Hparams) -> Iterator[Finding]:
    """Yield the settings in the config of a `Decoder` that would be lost in the GGUF."""
    if hparams.hidden_act not in ("silu", "swish"):
        yield error(f"hidden_act is {hparams.hidden_act}; llama.cpp computes silu")
    if hparams.rope_type not in _ROPE_TYPES:
        yield error(f"rope_type {hparams.rope_type} is not supported; {', '.join(_ROPE_TYPES)} are")
    for key in ("attention_bias", "mlp_bias"):
        if config.flag(key, False):
            yield error(f"{key} is true; such biases are not supported")
    if hparams.head_dim % 2:
        yield error(f"head_dim is {hparams.head_dim}; RoPE needs an even number")
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
    """Yield YaRN settings that differ from llama.cpp's, which ignores them in these models."""
    usual = {"beta_fast": 32.0, "beta_slow": 1.0}
    usual["attention_factor"] = 1 + 0.1 * log(max(rope.number("factor"), 1.0))
    for key, value in usual.items():
        stated = rope.number(key, value)
        if abs(stated - value) > 1e-4:
            yield error(f"YaRN's {key} is {stated:g}; llama.cpp computes with {value:.4g}")


def warn_of_window(config: Config, *, is_on: bool) -> Iterator[Finding]:
    """Warn of a sliding window that is smaller than the context; llama.cpp does not apply it.

    is_on: whether the model uses its sliding window at all.
    """
    if not is_on or not config.raw("sliding_window"):
        return
    window = config.integer("sliding_window")
    if window < config.integer("max_position_embeddings"):
        yield warning(
            f"sliding_window is {window}; llama.cpp does not apply it, so in contexts over "
            f"{window} tokens the model attends to more tokens than in training"
        )


def diagnose_sources(checkpoint: Checkpoint, vocab: Vocabulary | None) -> Iterator[Finding]:
    """Yield which files are missing, and what the vocabulary lacks for a chat."""
    if checkpoint.is_outline:
        yield warning("the shards are absent, so sizes come from config.json and the index")
    if vocab is not None and vocab.tokens.model == "bert":
        yield from _diagnose_bert_vocabulary(vocab)
    elif vocab is not None:
        yield from diagnose_vocabulary(vocab)
    else:
        yield warning("there is no tokenizer, so its metadata (some megabytes) is not counted")


def _diagnose_bert_vocabulary(vocab: Vocabulary) -> Iterator[Finding]:
    """Yield what an encoder's vocabulary lacks; it needs neither a chat template nor an end."""
    for kind, text in (("bos", "[CLS]"), ("sep", "[SEP]"), ("unk", "[UNK]")):
        if kind not in vocab.special_ids:
            yield error(f"tokenizer_config.json does not name the token that BERT calls {text}")


def diagnose_vocabulary(vocab: Vocabulary) -> Iterator[Finding]:
    """Yield what this vocabulary lacks for a chat."""
    if vocab.chat_template is None:
        yield warning("no chat template: normal for a base model, but chatting needs one")
    else:
        yield from template_tokens(vocab.chat_template, vocab.tokens.texts)
    if vocab.left_older_template:
        yield warning(
            "chat_template.jinja is taken; tokenizer_config.json has another, older chat template"
        )
    for kind, stated in vocab.unresolved.items():
        yield warning(f"the {kind} token is stated as {stated}, which the vocabulary lacks")
    if "bos" not in vocab.special_ids:
        if vocab.adds.get("bos"):
            yield error("every text is to begin with a beginning-of-text token, but none is named")
        else:
            yield warning("no beginning-of-text token is named in tokenizer_config.json")
    if not {"eos", "eot"} & vocab.special_ids.keys():
        yield warning("no end token (eos, eot) is named: answers will not stop by themselves")
    known = {vocab.special_ids.get(kind) for kind in ("eos", "eot", "eom")}
    for id_ in vocab.ends:
        if id_ not in known and vocab.tokens.texts[id_] not in _KNOWN_ENDS:
            yield warning(
                f"answers also end on {vocab.tokens.texts[id_]} (generation_config.json or "
                "config.json); llama.cpp does not end there, so give it as a stop string"
            )


def template_tokens(template: str, texts: list[str]) -> Iterator[Finding]:
    """Warn of control tokens that the chat template uses and the vocabulary lacks."""
    absent = sorted(set(_CONTROL_TEXT.findall(template)) - set(texts))
    if absent:
        shown = ", ".join(absent[:3]) + (" …" if len(absent) > 3 else "")
        yield warning(f"the chat template uses {shown}, which the vocabulary lacks")


def rope_clash(text: Config) -> Iterator[Finding]:
    """Warn if a config states RoPE in both ways, transformers 4's and 5's, and they differ."""
    new, old = text.raw("rope_parameters"), text.raw("rope_scaling")
    if not isinstance(new, dict):
        return
    others = {"rope_theta": text.raw("rope_theta")} | (old if isinstance(old, dict) else {})
    clash = sorted(key for key in new if others.get(key) not in (None, new[key]))
    if clash:
        yield warning(
            f"rope_parameters and rope_scaling differ in {', '.join(clash)}; "
            "rope_parameters is used"
        )


def error(message: str) -> Finding:
    """A finding that the model would run wrong."""
    return Finding("error", message)


def warning(message: str) -> Finding:
    """A finding that the user should know of."""
    return Finding("warning", message)
