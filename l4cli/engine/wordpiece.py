"""WordPiece, the tokenizer of BERT, with the same ids as transformers' own. Pure.

llama.cpp's differs from it: it leaves out the vowel signs of Hindi and other scripts with the
accents, does not take Korean syllables apart, and has no limit to the length of a word. Source:
Hugging Face's tokenizers (``BertNormalizer``, ``BertPreTokenizer``, ``WordPiece``).
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterable

_BEGINS = "▁"  # what GGUF writes before a token that begins a word
_LONGEST_WORD = 100  # characters; BERT knows no longer ones
_MOST_KNOWN = 1 << 17  # words whose ids are kept
_CONTROLS = ("Cc", "Cf", "Co")
_KEPT_CONTROLS = "\t\n\r"
# Scripts in which each character is a word. The fifth begins later in Unicode, but not in BERT.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """Takes texts apart into words, and words into the longest tokens there are.

    tokens: text and id of every token but control tokens, as the GGUF has them.
    unknown: the id of the token for words that cannot be taken apart.
    lowercase: whether texts become lower case. strips_accents: whether accents are left out.
    """

    def __init__(
        self,
        tokens: Iterable[tuple[str, int]],
        unknown: int,
        *,
        lowercase: bool = True,
        strips_accents: bool = True,
    ) -> None:
        self._beginning: dict[str, int] = {}
        self._continuing: dict[str, int] = {}
        for text, id_ in tokens:
            begins = text.startswith(_BEGINS)
            (self._beginning if begins else self._continuing)[text[begins:]] = id_
        texts = (*self._beginning, *self._continuing)
        self._longest = max(map(len, texts), default=0)
        self._unknown, self._strips_accents = (unknown,), strips_accents
        self._cleaned = _Cleaned()
        self._split = _Split(lowercase=lowercase, strips_accents=strips_accents)
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without those that stand around it."""
        text = text.translate(self._cleaned)
        if self._strips_accents:
            text = unicodedata.normalize("NFD", text)
        found: list[int] = []
        known = self._known
        for word in text.translate(self._split).split():
            ids = known.get(word)
            if ids is None:
                ids = self._take_apart(word)
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                known[word] = ids
            found += ids
        return found

    def _take_apart(self, word: str) -> tuple[int, ...]:
        """Return the ids of a word: the longest token it begins with, and so on."""
        if len(word) > _LONGEST_WORD:
            return self._unknown
        ids: list[int] = []
        at, tokens = 0, self._beginning
        while at < len(word):
            for end in range(min(len(word), at + self._longest), at, -1):
                id_ = tokens.get(word[at:end])
                if id_ is not None:
                    break
            else:
                return self._unknown
            ids.append(id_)
            at, tokens = end, self._continuing
        return tuple(ids)


class _Cleaned(dict[int, str]):
    """A table for `str.translate`: no control characters, and ideographs apart."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char in _KEPT_CONTROLS:
            cleaned = " "
        elif code == 0xFFFD or unicodedata.category(char) in _CONTROLS:
            cleaned = ""
        elif char.isspace():
            cleaned = " "
        elif any(first <= code <= last for first, last in _IDEOGRAPHS):
            cleaned = f" {char} "
        else:
            cleaned = char
        self[code] = cleaned
        return cleaned


class _Split(dict[int, str]):
    """A table for `str.translate`: punctuation apart, without accents, in lower case."""

    def __init__(self, *, lowercase: bool, strips_accents: bool) -> None:
        self._lowercase, self._strips_accents = lowercase, strips_accents

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if char in string.punctuation or category.startswith("P"):
            split = f" {char} "
        elif self._strips_accents and category == "Mn":
            split = ""
        else:
            split = char.lower() if self._lowercase else char
        self[code] = split
        return split
