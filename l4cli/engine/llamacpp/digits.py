"""Cuts long runs of digits where SuperBPE's pre-tokenizer cuts them anyway.

Its second expression, `(?=(\\d{3})+(?!\\d))`, begins a word wherever the number of digits up to the
end of the run is a multiple of three. For each digit it looks at all that follow: llama.cpp takes
ten seconds for 10,000 digits, and a quarter of an hour for 100,000. No token crosses the end of a
word, so the ids stay the same if the text is cut there first; and both parts are then cut as
before, since the digits behind a cut are a multiple of three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

PRE_TOKENIZERS = frozenset({"superbpe"})
_AT_ONCE = 150  # digits, a multiple of three: 2 ms
_LONG = re.compile(rf"[0-9]{{{2 * _AT_ONCE},}}")
_ADJACENT = re.compile(r"[0-9]{2}")


def can_cut(user_defined: Iterable[str]) -> bool:
    """Whether no token that is found before a text is split could lie across a cut."""
    return not any(map(_ADJACENT.search, user_defined))


def parts(text: str) -> Iterator[str]:
    """The parts of a text that can be tokenized apart: the whole text unless it has long runs."""
    begin = 0
    for run in _LONG.finditer(text):
        first = run.start() + len(run[0]) % _AT_ONCE + _AT_ONCE
        for cut in range(first, run.end(), _AT_ONCE):
            yield text[begin:cut]
            begin = cut
    yield text[begin:]
