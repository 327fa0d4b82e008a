"""Runs of characters for which a pre-tokenizer takes time by the square of their length.

SuperBPE's second expression, `(?=(\\d{3})+(?!\\d))`, begins a word wherever the number of digits up
to the end of the run is a multiple of three. For each digit it looks at all that follow: llama.cpp
takes ten seconds for 10,000 digits, and a quarter of an hour for 100,000. No token crosses the end
of a word, so the ids stay the same if the text is cut there first; and both parts are then cut as
before, since the digits behind a cut are a multiple of three.

Jais 2's looks for the end of a blank after each 512 characters of it. Where it cuts depends on what
follows, so a blank that would take longer than ten seconds is refused; digits, too, if they may not
be cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from l4cli.errors import RequestError

_DIGITS, _BLANKS = "superbpe", "jais-2"
_AT_ONCE = 150  # digits, a multiple of three: 2 ms
_MOST = {_DIGITS: 10_000, _BLANKS: 200_000}  # in one run: about ten seconds
_LONG = re.compile(rf"[0-9]{{{2 * _AT_ONCE},}}")
_SLOW = {
    _DIGITS: re.compile(rf"[0-9]{{{_MOST[_DIGITS] + 1},}}"),
    _BLANKS: re.compile(rf"[^\S\r\n]{{{_MOST[_BLANKS] + 1},}}"),
}
_ADJACENT = re.compile(r"[0-9]{2}")


def cuts_digits(pre_tokenizer: str | None, user_defined: Iterable[str]) -> bool:
    """Whether long runs of digits have to be cut, and can be.

    user_defined: the tokens that are found before a text is split; one could lie across a cut.
    """
    return pre_tokenizer == _DIGITS and not any(map(_ADJACENT.search, user_defined))


def parts(text: str) -> Iterator[str]:
    """The parts of a text that can be tokenized apart: the whole text unless it has long runs."""
    begin = 0
    for run in _LONG.finditer(text):
        first = run.start() + len(run[0]) % _AT_ONCE + _AT_ONCE
        for cut in range(first, run.end(), _AT_ONCE):
            yield text[begin:cut]
            begin = cut
    yield text[begin:]


def check(pre_tokenizer: str | None, text: str) -> None:
    """RequestError if a run that is not cut would take too long."""
    most = _MOST.get(pre_tokenizer or "")
    if most and len(text) > most and (found := _SLOW[pre_tokenizer or ""].search(text)):
        what = "digits" if pre_tokenizer == _DIGITS else "blanks"
        raise RequestError(
            f"the text has a run of {len(found[0]):,} {what}; with this model's vocabulary "
            f"llama.cpp takes too long for more than {most:,}: break it up"
        )
