"""A tiny tokenizer of Llama 4's kind: byte-level BPE with its regex, specials and chat format.

It has every byte, the merges of a few words, the control tokens, and holes up to VOCAB_SIZE.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPLIT_REGEX = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
    "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>",
    "<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>",
    "<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>",
    "<|tile_x_separator|>", "<|tile_y_separator|>",
)  # fmt: skip
VOCAB_SIZE = 352  # the last ids are holes, as in the real one

_MERGED_WORDS = ("the", " the", " and", "ing", " llama", "hello", " world", "er", " is", "tion")


def _byte_chars() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte, in the order of its vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


def _make_bpe() -> tuple[dict[str, int], list[list[str]]]:
    """Vocabulary and merges: all bytes, and what builds up a few words."""
    chars = _byte_chars()
    vocab = {char: id_ for id_, char in enumerate(chars.values())}
    merges = []
    for word in _MERGED_WORDS:
        merged, *rest = (chars[byte] for byte in word.encode())
        for char in rest:
            if merged + char not in vocab:
                merges.append([merged, char])
                vocab[merged + char] = len(vocab)
            merged += char
    return vocab, merges


_VOCAB, _MERGES = _make_bpe()
SPECIAL_IDS = {text: len(_VOCAB) + i for i, text in enumerate(SPECIAL_TOKENS)}
BOS_ID, EOT_ID = SPECIAL_IDS["<|begin_of_text|>"], SPECIAL_IDS["<|eot|>"]

CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|header_start|>' + message['role'] + '<|header_end|>\\n\\n' }}"
    "{{- message['content'] + '<|eot|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|header_start|>assistant<|header_end|>\\n\\n' }}"
    "{%- endif %}"
)


def write_tokenizer(path: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json into the directory `path`."""
    split = {
        "type": "Split",
        "pattern": {"Regex": SPLIT_REGEX},
        "behavior": "Isolated",
        "invert": False,
    }
    tokenizer = {
        "version": "1.0",
        "added_tokens": [_added_token(text, id_) for text, id_ in SPECIAL_IDS.items()],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, _byte_level(add_prefix_space=False, use_regex=False)],
        },
        "post_processor": {
            "type": "Sequence",
            "processors": [_byte_level(trim_offsets=False), _bos_template("<|begin_of_text|>")],
        },
        "decoder": _byte_level(),
        "model": {"type": "BPE", "ignore_merges": False, "vocab": _VOCAB, "merges": _MERGES},
    }
    settings = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot|>",
        "pad_token": "<|finetune_right_pad|>",
        "chat_template": CHAT_TEMPLATE,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, value in (("tokenizer", tokenizer), ("tokenizer_config", settings)):
        (path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def _byte_level(**flags: bool) -> dict[str, Any]:
    defaults = {"add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {"type": "ByteLevel", **defaults, **flags}


def _bos_template(bos: str) -> dict[str, Any]:
    start = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": id_, "type_id": i}} for i, id_ in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, start, second],
        "special_tokens": {bos: {"id": bos, "ids": [SPECIAL_IDS[bos]], "tokens": [bos]}},
    }


def _added_token(text: str, id_: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id_, "content": text, **flags, "special": True}
