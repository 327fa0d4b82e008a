"""Writes tiny tokenizers like Llama 4's (byte-level BPE) and like Llama 2's (SentencePiece).

The first has Llama 4's regex, control tokens and chat format, every byte, the merges of a few
words, and unused ids up to VOCAB_SIZE. The second has every byte, pieces of the same words, and
characters.
"""

from __future__ import annotations

import json
import struct
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
VOCAB_SIZE = 352  # the last ids are unused, as in the real tokenizer

_MERGED_WORDS = ("the", " the", " and", "ing", " llama", "hello", " world", "er", " is", "tion")


def _byte_chars() -> dict[int, str]:
    """The printable character that GPT-2 uses for each byte, in the order of its vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


def _make_bpe() -> tuple[dict[str, int], list[list[str]]]:
    """The vocabulary and merges: all bytes, and the tokens that lead to a few words."""
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


_LLAMA3_REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN_REGEX = SPLIT_REGEX.replace(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")

# Settings of the published tokenizers: split regex (None: GPT-2's, after digits are split off),
# normalizer, and ignore_merges.
BYTE_LEVEL: dict[str, tuple[str | None, Any, bool]] = {
    "llama4": (SPLIT_REGEX, None, False),
    "llama-bpe": (_LLAMA3_REGEX, None, True),
    "smaug-bpe": (_LLAMA3_REGEX, None, False),
    "qwen2": (_LLAMA3_REGEX.replace("{1,3}", ""), {"type": "NFC"}, False),
    "tekken": (_TEKKEN_REGEX, None, True),
    "smollm": (None, None, False),
}


def write_tokenizer(path: Path, pre: str = "llama4") -> None:
    """Write tokenizer.json and tokenizer_config.json into the directory `path`."""
    regex, normalizer, ignore_merges = BYTE_LEVEL[pre]
    split: dict[str, Any] = {
        "type": "Split",
        "pattern": {"Regex": regex},
        "behavior": "Isolated",
        "invert": False,
    }
    if regex is None:
        split = {"type": "Digits", "individual_digits": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [_added_token(text, id_) for text, id_ in SPECIAL_IDS.items()],
        "normalizer": normalizer,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, _byte_level(add_prefix_space=False, use_regex=regex is None)],
        },
        "post_processor": {
            "type": "Sequence",
            "processors": [
                _byte_level(trim_offsets=False),
                _bos_template("<|begin_of_text|>", BOS_ID),
            ],
        },
        "decoder": _byte_level(),
        "model": {
            "type": "BPE",
            "ignore_merges": ignore_merges,
            "vocab": _VOCAB,
            "merges": _MERGES,
        },
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


def _bos_template(bos: str, bos_id: int) -> dict[str, Any]:
    start = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": id_, "type_id": i}} for i, id_ in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, start, second],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }


def _added_token(text: str, id_: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id_, "content": text, **flags, "special": True}


def _make_pieces() -> tuple[dict[str, float], list[list[str]]]:
    """SentencePiece's pieces with their scores, and the merges that Hugging Face makes of them."""
    merged = dict.fromkeys(
        word[:end]
        for word in (text.replace(" ", "▁") for text in (*_MERGED_WORDS, " hell", "llo"))
        for end in range(2, len(word) + 1)
    )
    chars = dict.fromkeys("▁" + "".join(map(chr, range(33, 127))) + "éü中")
    pieces = {text: -float(rank) for rank, text in enumerate((*merged, *chars))}
    merges = [
        [text[:at], text[at:]]
        for text in merged
        for at in range(1, len(text))
        if text[:at] in pieces and text[at:] in pieces
    ]
    return pieces, merges


_PIECES, _PIECE_MERGES = _make_pieces()
_CONTROLS = ("<unk>", "<s>", "</s>")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
N_PIECES = len(_CONTROLS) + len(_BYTES) + len(_PIECES)


def write_sentencepiece(path: Path, *, model: bool = True, json_too: bool = True) -> None:
    """Write a tokenizer like Llama 2's into the directory `path`, with tokenizer_config.json.

    model, json_too: whether to write tokenizer.model, and tokenizer.json.
    """
    if model:
        (path / "tokenizer.model").write_bytes(_model_proto())
    texts = (*_CONTROLS, *_BYTES, *_PIECES)
    added = [_added_token(text, id_) for id_, text in enumerate(_CONTROLS)]
    tokenizer = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": _bos_template("<s>", 1),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {text: id_ for id_, text in enumerate(texts)},
            "merges": _PIECE_MERGES,
        },
    }
    settings = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "added_tokens_decoder": {str(entry["id"]): entry for entry in added},
        "tokenizer_class": "LlamaTokenizer",
    }
    if json_too:
        (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _model_proto() -> bytes:
    """A ModelProto of sentencepiece_model.proto, with the pieces and the model type BPE."""
    kinds = [(text, 0.0, 2 if text == "<unk>" else 3) for text in _CONTROLS]
    kinds += [(text, 0.0, 6) for text in _BYTES]
    kinds += [(text, score, 1) for text, score in _PIECES.items()]
    raw = b""
    for text, score, kind in kinds:
        encoded = text.encode()
        piece = b"\x0a" + bytes([len(encoded)]) + encoded
        piece += b"\x15" + struct.pack("<f", score) + bytes([0x18, kind])
        raw += b"\x0a" + bytes([len(piece)]) + piece
    return raw + b"\x12\x05\x18\x02\x98\x02\x01"  # trainer_spec { BPE, byte_fallback }
