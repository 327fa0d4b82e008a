"""Reads WordPiece tokenizers: those of BERT.

BERT marks the pieces that continue a word, with "##". llama.cpp marks those that begin one, with
the sign that SentencePiece has for a space. Source: llama.cpp ``conversion/bert.py``
(BertModel.set_vocab) and ``src/llama-vocab.cpp`` (llm_tokenizer_wpm).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.tokenizer.tokens import CONTROL, Tokens, placed

_CONTINUES, _BEGINS = "##", "▁"
# llama.cpp's names of BERT's pre-tokenizers differ by model, and it computes the same for all.
_PRE = "jina-v2-en"


def read_wordpiece(path: Path, tokenizer: Mapping[str, Any], vocab_size: int) -> Tokens:
    """The vocabulary in `tokenizer`, the content of the tokenizer.json `path`.

    It is padded to `vocab_size` tokens. Raises ConvertError if llama.cpp cannot reproduce it.
    """
    model, normalizer = tokenizer["model"], tokenizer.get("normalizer") or {}
    _check(path, model, normalizer, tokenizer.get("pre_tokenizer") or {})
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens") or []}
    named = {id_: text for text, id_ in model["vocab"].items()}
    named |= {id_: entry["content"] for id_, entry in added.items()}
    texts, types = placed(path, named, added, vocab_size)
    marked = [_marked(text, type_) for text, type_ in zip(texts, types, strict=True)]
    return Tokens(
        "bert",
        _PRE,
        marked,
        types,
        lowercase=normalizer.get("lowercase"),
        strips_accents=normalizer.get("strip_accents"),
    )


def _check(
    path: Path,
    model: Mapping[str, Any],
    normalizer: Mapping[str, Any],
    pre_tokenizer: Mapping[str, Any],
) -> None:
    """Raise ConvertError unless llama.cpp takes texts apart in the same way."""
    prefix = model.get("continuing_subword_prefix", _CONTINUES)
    if prefix != _CONTINUES:
        raise ConvertError(f"{path}: marks pieces within words with {prefix!r}, not with '##'")
    if model.get("unk_token") not in model["vocab"]:
        raise ConvertError(f"{path}: its vocabulary lacks the token for unknown words")
    if normalizer.get("type") != "BertNormalizer":
        kind = normalizer.get("type")
        raise ConvertError(f"{path}: has the normalizer {kind}; llama.cpp has BertNormalizer's")
    for key in ("clean_text", "handle_chinese_chars"):
        if normalizer.get(key, True) is not True:
            raise ConvertError(f"{path}: has {key} turned off, which llama.cpp always does")
    if pre_tokenizer.get("type") != "BertPreTokenizer":
        kind = pre_tokenizer.get("type")
        raise ConvertError(
            f"{path}: has the pre-tokenizer {kind}; llama.cpp has BertPreTokenizer's"
        )


def _marked(text: str, type_: int) -> str:
    """The token as llama.cpp writes it."""
    if type_ == CONTROL:
        return text
    return text[len(_CONTINUES) :] if text.startswith(_CONTINUES) else _BEGINS + text
