"""Tokenizes a text word by word, so that llama.cpp has to tokenize each word only once.

llama.cpp splits a text into words with the vocabulary's regular expression. std::regex compiles it
again for every text (0.4 ms, as long as a hundred words take) and needs half a microsecond per
character. No token crosses the end of a word, so a word has the same token ids everywhere, and most
words occur again.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping

# LLAMA_VOCAB_PRE_TYPE_GPT4O of llama.cpp's src/llama-vocab.cpp, for ASCII.
_WORD = re.compile(
    r"[^\r\nA-Za-z0-9]?(?:[A-Z]*[a-z]+|[A-Z]+)(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))?"
    r"|[0-9]{1,3}"
    r"| ?[^\sA-Za-z0-9]+[\r\n/]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+",
    re.ASCII,
)
PRE_TOKENIZERS = frozenset({"gpt-4o", "kanana2", "llama4", "talkie"})  # use this expression
# Positions where a word certainly ends, whatever surrounds them.
_CUT = re.compile(r"(?<=[\r\n])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?= )")
_ENDS_A_WORD = re.compile(r"[^\r\n]*[A-Za-z0-9]")  # words that end where a line break follows
_CALL = 800  # characters that llama.cpp splits in the time that the expression takes to compile
_FEW = 4  # calls for single words that even a short text may take
_LONGEST, _MOST = 64, 1 << 17  # characters of a known word, and number of known words: 30 MB
_SHORT_NUMBERS = [f"{n:0{width}}" for width in (1, 2) for n in range(10**width)]

_Ids = tuple[int, ...]


class Words:
    """Returns the same ids as `tokenize`, but faster. Threads may share it.

    tokenize: llama.cpp's, for a vocabulary with one of PRE_TOKENIZERS and no user-defined tokens.
    """

    def __init__(self, tokenize: Callable[[str], list[int]]) -> None:
        self._tokenize = tokenize
        self._known: dict[str, _Ids] = {}

    def ids(self, text: str) -> list[int]:
        words = _WORD.findall(text) if text.isascii() else list(_mixed(text))
        known: Mapping[str, _Ids] = self._known
        missing = set(words).difference(known)
        if missing:
            found = self._learn(missing, _FEW + len(text) // _CALL)
            if found is None:
                return self._tokenize(text)
            known = self._keep(found)
        ids: list[int] = []
        for word in words:
            ids += known[word]
        return ids

    def _keep(self, found: dict[str, _Ids]) -> Mapping[str, _Ids]:
        """Keep the ids of new words that are not too long; return those of all words, long or not.

        If too many words are known, start again with none.
        """
        known = self._known
        known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST)
        if len(known) > _MOST:
            self._known = {}
        return known if len(max(found, key=len)) <= _LONGEST else ChainMap(known, found)

    def _learn(self, words: set[str], most_calls: int) -> dict[str, _Ids] | None:
        """The ids of new words; None if too many of them would take a call each.

        Most are tokenized in one call, with a text between them that is always a separate word.
        """
        if not words.isdisjoint(_SHORT_NUMBERS):  # a list of numbers: others will follow
            words = words.union(_SHORT_NUMBERS)
        before_lines = {word for word in words if _ENDS_A_WORD.fullmatch(word)}
        others = words - before_lines
        before_digits = {
            w for w in others if w.isascii() and (w[-1] in "\r\n" or not w[-1].isspace())
        }
        single = others - before_digits
        if len(single) > most_calls:
            return None
        found = dict(self._apart(before_lines, "\n"))
        found.update(self._apart(before_digits, "0"))
        found.update((word, tuple(self._tokenize(word))) for word in single)
        return found

    def _apart(self, words: set[str], between: str) -> Iterator[tuple[str, _Ids]]:
        """The words with their ids, found in one call. No word may contain `between`, one token."""
        in_order = list(words)
        if not in_order:
            return
        ids = self._tokenize(between + "".join(word + between for word in in_order))
        mark, at = ids[0], 1
        for word in in_order:
            end = ids.index(mark, at)
            yield word, tuple(ids[at:end])
            at = end + 1


def _mixed(text: str) -> Iterator[str]:
    """The words of a text. Those with non-ASCII characters stay joined to their neighbours, up to
    the nearest positions where a word certainly ends."""
    for piece in _CUT.split(text):
        if piece.isascii():
            yield from _WORD.findall(piece)
        else:
            yield piece
