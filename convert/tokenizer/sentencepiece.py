"""Reads SentencePiece vocabularies like Llama 2's, from tokenizer.model or from tokenizer.json.

tokenizer.json has merges instead of scores. Here a piece's score is its negated position among the
pieces that merges make. SentencePiece's own BPE training writes the same scores, and they keep the
order in which llama.cpp merges. (llama.cpp's converter gives every piece the same score in this
case, which results in other tokens.) Format: ``sentencepiece_model.proto`` (ModelProto).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.reading import MOST_TOKENIZER_BYTES, is_there, read_bytes, refuse_left_overs
from convert.tokenizer.tokens import BYTE, CONTROL, NORMAL, UNUSED, Tokens, added_type, pad_text

_BPE = 2  # TrainerSpec.ModelType
_SPACE = "▁"
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types


@dataclass(frozen=True)
class _Piece:
    text: str
    score: float
    type: int


def read_sentencepiece(
    path: Path, tokenizer: Mapping[str, Any], settings: Mapping[str, Any], vocab_size: int
) -> Tokens:
    """The pieces in tokenizer.model or else in tokenizer.json, and the added tokens.

    path: one of these two files; tokenizer.model is read if it is in the same directory.
    tokenizer: the content of tokenizer.json; empty if there is none.
    settings: the content of tokenizer_config.json; empty if there is none.
    vocab_size: the number of tokens to pad to.

    Raises ConvertError if it is not a tokenizer of Llama's kind.
    """
    model_path = path.with_name("tokenizer.model")
    is_model = is_there(model_path)
    if is_model:
        pieces, adds_space = _read_model(model_path)
    else:
        pieces, adds_space = _read_json_model(path, tokenizer)
    pieces += [_padding(id_) for id_ in range(len(pieces), vocab_size)]
    # As in transformers, tokenizer_config.json takes precedence over the model.
    listed = {
        int(id_): entry for id_, entry in (settings.get("added_tokens_decoder") or {}).items()
    }
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens") or []} | listed
    if (last := max([len(pieces) - 1, *added])) >= vocab_size:
        raise ConvertError(
            f"{path}: has ids up to {last}, but config.json says vocab_size {vocab_size}"
        )
    for id_, entry in added.items():
        if not is_model or id_ in listed or pieces[id_].type == UNUSED:
            pieces[id_] = _added(entry)
    told = settings.get("add_prefix_space")
    return Tokens(
        "llama",
        "default",
        [piece.text for piece in pieces],
        [piece.type for piece in pieces],
        scores=[piece.score for piece in pieces],
        adds_space=told if isinstance(told, bool) else None if adds_space else False,
    )


def _padding(id_: int) -> _Piece:
    return _Piece(pad_text(id_), -10000.0, UNUSED)


def _added(entry: Mapping[str, Any]) -> _Piece:
    text, type_ = entry["content"], added_type(entry)
    return _Piece(text if type_ == CONTROL else text.replace(_SPACE, " "), -1000.0, type_)


def _read_model(path: Path) -> tuple[list[_Piece], bool]:
    """The pieces in a tokenizer.model, and whether every text gets a space before it."""
    pieces: list[_Piece] = []
    adds_space, model_type = True, 1
    raw = read_bytes(path, MOST_TOKENIZER_BYTES)
    refuse_left_overs(path, raw)
    try:
        for number, value in _fields(raw):
            if number == 1:
                pieces.append(_piece(value))
            elif number == 2:
                model_type = dict(_fields(value)).get(3, model_type)
            elif number == 3:
                adds_space = bool(dict(_fields(value)).get(3, True))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ConvertError(f"{path}: not a SentencePiece model; fetch it again") from error
    if model_type != _BPE or not pieces:
        raise ConvertError(f"{path}: not a BPE model, the only kind llama.cpp runs as Llama's")
    return pieces, adds_space


def _read_json_model(path: Path, tokenizer: Mapping[str, Any]) -> tuple[list[_Piece], bool]:
    """The same as `_read_model`, of a BPE model with byte fallback in a tokenizer.json."""
    vocab: Mapping[str, int] = tokenizer["model"]["vocab"]
    made = dict.fromkeys(_result(merge) for merge in tokenizer["model"]["merges"])
    scores = {text: -float(rank) for rank, text in enumerate(made)}
    added = {entry["content"] for entry in tokenizer.get("added_tokens") or []}
    pieces = [_padding(id_) for id_ in range(max(vocab.values()) + 1)]
    for text, id_ in sorted(vocab.items(), key=lambda item: item[1]):
        if _BYTE_PIECE.fullmatch(text):
            pieces[id_] = _Piece(text, 0.0, BYTE)
        elif text not in added:
            pieces[id_] = _Piece(text, scores.setdefault(text, -float(len(scores))), NORMAL)
    return pieces, _adds_space(path, tokenizer)


def _result(merge: str | list[str]) -> str:
    return "".join(merge.split(" ") if isinstance(merge, str) else merge)


def _adds_space(path: Path, tokenizer: Mapping[str, Any]) -> bool:
    """Whether every text gets a space before it.

    Raises ConvertError if the tokenizer changes texts in a way that llama.cpp does not.
    """
    normalizer = tokenizer.get("normalizer") or {"type": "Sequence", "normalizers": []}
    steps = normalizer.get("normalizers", [normalizer])
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepend = {"type": "Prepend", "prepend": _SPACE}
    before = tokenizer.get("pre_tokenizer")
    if before is None and steps in ([prepend, spaces], [spaces]):
        return bool(steps[0] == prepend)
    if not steps and isinstance(before, dict) and before.get("type") == "Metaspace":
        scheme = before.get("prepend_scheme", "always")
        if before.get("replacement") == _SPACE:
            return str(scheme) != "never"
    raise ConvertError(
        f"{path}: its normalizer and pre-tokenizer are not those of Llama's SentencePiece; "
        "fetch the original tokenizer.json or tokenizer.model"
    )


def _piece(raw: bytes) -> _Piece:
    values = dict(_fields(raw))
    score = struct.unpack("<f", values[2])[0] if 2 in values else 0.0
    return _Piece(values[1].decode("utf-8"), score, values.get(3, NORMAL))


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a protobuf message: the number, and an int or the bytes."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(raw, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(raw, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(raw):
            raise ValueError("truncated")
        yield number, raw[at : at + size]
        at += size


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
