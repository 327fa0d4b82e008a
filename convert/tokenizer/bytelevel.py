"""Reads byte-level BPE tokenizers: those of Llama 3 and 4, Qwen, and Mistral's Tekken.

The split regex identifies which of llama.cpp's pre-tokenizers to use. A wrong one would silently
cost 8 to 10 percent more tokens, so a regex that is not known is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.tokenizer.tokens import Tokens, placed, unroll

# Split regex of tokenizer.json -> llama.cpp's name of that pre-tokenizer (src/llama-vocab.cpp).
_PRE_TOKENIZERS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama4",
}

# GPT-2's regex, which ByteLevel has built in, after every digit has been split off.
_DIGITS = "smollm"

# With Llama 3's pre-tokenizer, llama.cpp takes a word that is a token without merging it. Other
# tokenizers with the same regex may not do so (no `ignore_merges`); they get another name.
_MERGING = {"llama-bpe": "smaug-bpe"}

# Normalizers that llama.cpp does not apply to these tokenizers. Only decomposed letters differ.
_LEFT_OUT = {"qwen2": "NFC"}


def read_byte_level(path: Path, tokenizer: Mapping[str, Any], vocab_size: int) -> Tokens:
    """The vocabulary in `tokenizer`, the content of the tokenizer.json `path`.

    It is padded to `vocab_size` tokens. Raises ConvertError if llama.cpp cannot reproduce it.
    """
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise ConvertError(f"{path}: not a BPE tokenizer; no other kind can be converted")
    pre = _recognize(path, tokenizer)
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens") or []}
    texts, types = _tokens(path, model.get("vocab") or {}, added, vocab_size)
    merges = [_merge(merge) for merge in model.get("merges") or []]
    return Tokens("gpt2", pre, texts, types, merges=merges)


def _recognize(path: Path, tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name of the pre-tokenizer. Raises ConvertError if it has none."""
    pre = _pre_tokenizer(list(unroll(tokenizer.get("pre_tokenizer"))))
    if pre is None:
        raise ConvertError(
            f"{path}: its pre-tokenizer is not one of those known ({', '.join(_names())}); fetch "
            "the original tokenizer.json, as re-saved ones often lose their split regex"
        )
    normalizer = tokenizer.get("normalizer")
    if normalizer and normalizer != {"type": _LEFT_OUT.get(pre)}:
        raise ConvertError(f"{path}: it has a normalizer that llama.cpp does not apply")
    if not tokenizer["model"].get("ignore_merges"):
        return _MERGING.get(pre, pre)
    return pre


def _pre_tokenizer(steps: list[dict[str, Any]]) -> str | None:
    kinds = [step.get("type") for step in steps]
    if kinds == ["Digits", "ByteLevel"]:
        is_smollm = steps[0].get("individual_digits") and steps[1].get("use_regex", True)
        return _DIGITS if is_smollm else None
    if kinds != ["Split", "ByteLevel"] or steps[1].get("use_regex", True):
        return None
    return _PRE_TOKENIZERS.get(steps[0]["pattern"].get("Regex"))


def _names() -> list[str]:
    return sorted({*_PRE_TOKENIZERS.values(), _DIGITS})


def _tokens(
    path: Path, vocab: Mapping[str, int], added: Mapping[int, Mapping[str, Any]], vocab_size: int
) -> tuple[list[str], list[int]]:
    named = {id_: text for text, id_ in vocab.items()}
    next_id = len(vocab)
    for id_, entry in added.items():
        if entry["content"] not in vocab:
            # The tokenizers library ignores the stated id and gives the next free one. If the two
            # differ, one of them is wrong.
            if id_ != next_id:
                raise ConvertError(
                    f"{path}: the added token {entry['content']} states the id {id_}, but Hugging "
                    f"Face's tokenizers give it {next_id}; save the tokenizer again"
                )
            next_id += 1
        named[id_] = entry["content"]
    return placed(path, named, added, vocab_size)


def _merge(merge: str | list[str]) -> str:
    # A merge is "a b" or, since tokenizers 0.20, ["a", "b"], whose items may contain spaces.
    if isinstance(merge, str):
        return merge
    return " ".join(part.replace(" ", chr(ord(" ") + 256)) for part in merge)
