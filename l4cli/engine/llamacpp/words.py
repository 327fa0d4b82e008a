"""A text's token ids by its words, each of which llama.cpp is given only once.

llama.cpp cuts texts into words by the vocabulary's regular expression, which std::regex compiles
anew for every text (0.4 ms, as much as a hundred words take) and runs at half a microsecond a
character. No token reaches across a word's end, so what a word gives it gives everywhere, and most
words come again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

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
# A word ends between these two, whatever is around.
_LINE = re.compile(r"(?<=[\r\n])(?=[A-Za-z0-9])")
_CALL = 800  # characters that llama.cpp cuts into words in the time that a regex takes to compile
_MOST = 1 << 17  # words kept; some 20 MB
_SHORT_NUMBERS = [f"{n:0{width}}" for width in (1, 2) for n in range(10**width)]

_Ids = tuple[int, ...]


class Words:
    """Gives what `tokenize` gives, which must be llama.cpp's with one of `PRE_TOKENIZERS` and
    without tokens of the user's own. Threads may share it."""

    def __init__(self, tokenize: Callable[[str], list[int]]) -> None:
        self._tokenize = tokenize
        self._known: dict[str, _Ids] = {}

    def ids(self, text: str) -> list[int]:
        runs = [text] if text.isascii() else list(_runs(text))
        if sum(not run.isascii() for run in runs) * _CALL > len(text):
            return self._tokenize(text)
        words = [_WORD.findall(run) if run.isascii() else [] for run in runs]
        known = self._known
        missing = {word for own in words for word in own}.difference(known)
        if missing:
            self._learn(known, missing)
            if len(known) > _MOST:
                self._known = {}
        ids: list[int] = []
        for run, own in zip(runs, words, strict=True):
            if run and not own:
                ids += self._tokenize(run)
            for word in own:
                ids += known[word]
        return ids

    def _learn(self, known: dict[str, _Ids], words: set[str]) -> None:
        """All at once, with something between them that is a word of its own there."""
        if not words.isdisjoint(_SHORT_NUMBERS):  # as in lists: more of them will come
            words = words.union(_SHORT_NUMBERS)
        named = {word for word in words if word[-1].isalnum()}
        known.update(self._apart(named, "\n"))
        blank = {word for word in words if word[-1].isspace() and word[-1] not in "\r\n"}
        known.update((word, tuple(self._tokenize(word))) for word in blank)
        known.update(self._apart(words - named - blank, "0"))

    def _apart(self, words: Iterable[str], between: str) -> Iterator[tuple[str, _Ids]]:
        """Words and their ids; none of them holds what is put between."""
        words = list(words)
        if not words:
            return
        ids = self._tokenize(between + "".join(word + between for word in words))
        mark = ids[0]
        at = 1
        for word in words:
            end = ids.index(mark, at)
            yield word, tuple(ids[at:end])
            at = end + 1


def _runs(text: str) -> Iterator[str]:
    """The text in pieces of lines, those of nothing but ASCII and the others in turns."""
    for _, lines in groupby(_LINE.split(text), str.isascii):
        yield "".join(lines)
