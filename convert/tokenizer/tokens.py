"""The tokens of a tokenizer of any kind, by id, as GGUF stores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from convert.errors import ConvertError

# llama.cpp's token types, which have the same numbers as SentencePiece's.
NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6


@dataclass(frozen=True)
class Tokens:
    """A tokenizer's tokens by id, and its merges (byte-level BPE) or scores (SentencePiece)."""

    model: Literal["gpt2", "llama", "bert"]  # byte-level BPE, SentencePiece, or WordPiece
    pre: str  # llama.cpp's name of the pre-tokenizer
    texts: list[str] = field(repr=False)
    types: list[int] = field(repr=False)
    merges: list[str] = field(repr=False, default_factory=list)
    scores: list[float] = field(repr=False, default_factory=list)
    adds_space: bool | None = None  # before every text; None: llama.cpp's default
    lowercase: bool | None = None  # WordPiece: whether texts become lower case; None: as above
    strips_accents: bool | None = None  # and whether accents are left out


def added_type(entry: Mapping[str, Any]) -> int:
    """The type of an added token, an entry of `added_tokens` in tokenizer.json."""
    # Some checkpoints do not mark their control tokens; their text shows what they are.
    text = entry["content"]
    is_control = entry.get("special") or (text.startswith("<|") and text.endswith("|>"))
    return CONTROL if is_control else USER_DEFINED


def pad_text(id_: int) -> str:
    """The text of an id that no token has."""
    return f"[PAD{id_}]"


def placed(
    path: Path, named: Mapping[int, str], added: Mapping[int, Mapping[str, Any]], vocab_size: int
) -> tuple[list[str], list[int]]:
    """Return the texts and types of `vocab_size` tokens; an id that has no text is padded.

    path: of the tokenizer.json, for the error.
    named: the text of each id, added tokens included.
    added: the entries of `added_tokens` by id.

    Raises ConvertError if an id is not below `vocab_size`.
    """
    if not named or max(named) >= vocab_size or min(named) < 0:
        raise ConvertError(
            f"{path}: has ids up to {max(named, default=-1)}, "
            f"but config.json says vocab_size {vocab_size}"
        )
    texts = [pad_text(id_) for id_ in range(vocab_size)]
    types = [UNUSED] * vocab_size
    for id_, text in named.items():
        texts[id_] = text
        types[id_] = added_type(added[id_]) if id_ in added else NORMAL
    return texts, types


def unroll(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the steps of a pre-tokenizer or post-processor; sequences are flattened."""
    if not isinstance(node, dict):
        return
    children = node.get("pretokenizers") or node.get("processors")
    if children:
        for child in children:
            yield from unroll(child)
    else:
        yield node
