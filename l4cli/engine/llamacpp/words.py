"""A text's token ids by its words, each of which llama.cpp is given only once.

llama.cpp cuts texts into words by the vocabulary's regular expression, which std::regex compiles
anew for every text (0.4 ms, as much as a hundred words take) and runs at half a microsecond a
character. No token reaches across a word's end, so what a word gives it gives everywhere, and most
words come again.
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
PRE_TOKENIZERS = frozenset({"gpt-4o", "kanana2", "llama4", "talkie"})  # that go by it
# A word ends here, whatever else is around.
_CUT = re.compile(r"(?<=[\r\n])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?= )")
_ENDS_A_WORD = re.compile(r"[^\r\n]*[A-Za-z0-9]")  # before a line's end
_CALL = 800  # characters that llama.cpp cuts into words in the time that a regex takes to compile
_FEW = 4  # calls for words that cannot be told apart in one
_LONGEST, _MOST = 64, 1 << 17  # characters of a word, and words, that are kept; about 30 MB
_SHORT_NUMBERS = [f"{n:0{width}}" for width in (1, 2) for n in range(10**width)]

_Ids = tuple[int, ...]


class Words:
    """Gives what `tokenize` gives, which must be llama.cpp's with one of `PRE_TOKENIZERS` and
    without tokens of the user's own. Threads may share it."""

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
        """All that is known now, longer words for this time."""
        known = self._known
        known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST)
        if len(known) > _MOST:
            self._known = {}
        return known if len(max(found, key=len)) <= _LONGEST else ChainMap(known, found)

    def _learn(self, words: set[str], most_calls: int) -> dict[str, _Ids] | None:
        """What words give, many found in one call, with something between them that is a word of
        its own there; None where too many others would take a call each."""
        if not words.isdisjoint(_SHORT_NUMBERS):  # as in lists: more of them will come
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
        """Words and their ids; none of them holds what is put between, which is one token."""
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
    """The words of a text, those with other than ASCII in them together with their neighbours as
    far as no cut is certain."""
    for piece in _CUT.split(text):
        if piece.isascii():
            yield from _WORD.findall(piece)
        else:
            yield piece
