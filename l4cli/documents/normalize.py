"""Normalizes text, so that a quotation and its source can be compared.

It unifies white space, typographic quotation marks, apostrophes and dashes, ligatures, accents
written as separate characters, soft hyphens, and words divided at line ends. Letters, digits and
other punctuation do not change.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

# Scripts that are written without spaces. A line end within them is not a space.
CJK = "\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef"
ACCENTS = "\u0300-\u036f"
_LETTER = r"[^\W\d_]"
_DIVIDED = rf"(?<={_LETTER})[-\u2010\u00ad][ \t]*\n\s*(?={_LETTER})"
_UNSEEN = "\u00ad\u200b-\u200d\u2060\ufeff"
_SAME = {
    **dict.fromkeys("“”„‟«»″", '"'),
    **dict.fromkeys("‘’‚‛‹›′`´", "'"),
    **dict.fromkeys("‐‑‒–—−", "-"),
    **dict(zip("ﬀﬁﬂﬃﬄﬅﬆ", ("ff", "fi", "fl", "ffi", "ffl", "st", "st"), strict=True)),
    "…": "...",
}
_SPACE = rf"[^\S ]\s*| \s+|(?<=[{CJK}]) (?=[{CJK}])"  # white space except single spaces
_DIFFERENT = re.compile(
    rf"(?P<divided>{_DIVIDED})|(?P<space>{_SPACE})|(?P<unseen>[{_UNSEEN}]+)"
    rf"|(?P<same>[{''.join(_SAME)}])|(?P<accented>\w[{ACCENTS}]+)"
)
_FLOWING = re.compile(rf"(?P<divided>{_DIVIDED})|(?P<unseen>[{_UNSEEN}]+)|\s+")
_IS_CJK = re.compile(f"[{CJK}]")


class Normalized:
    """A text in normal form, and for each of its characters the place in the original text.

    text: the normal form.
    joints: the offsets in the normal form at which a divided word was joined.
    """

    def __init__(self, original: str) -> None:
        parts: list[str] = []
        # The normal form consists of runs. For each run: its start, and the start and end of the
        # original text that it replaces. The end is -1 for runs that were copied unchanged.
        self._starts, self._begins, self._ends = [0], [0], [-1]
        length = copied = 0
        joints = set()
        for match in _DIFFERENT.finditer(original):
            begin, end = match.span()
            parts.append(original[copied:begin])
            length += begin - copied
            if match["divided"]:
                joints.add(length)
            written = _normal(match, original)
            if written:
                self._add(length, begin, end)
                parts.append(written)
                length += len(written)
            self._add(length, end, -1)
            copied = end
        parts.append(original[copied:])
        self.text = "".join(parts)
        self.joints = frozenset(joints)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return start and end in the original of normal-form characters `start` to `end` - 1."""
        return self._original(start)[0], self._original(end - 1)[1]

    def _add(self, start: int, begin: int, end: int) -> None:
        self._starts.append(start)
        self._begins.append(begin)
        self._ends.append(end)

    def _original(self, offset: int) -> tuple[int, int]:
        """Return start and end in the original of one character of the normal form."""
        index = bisect_right(self._starts, offset) - 1
        if self._ends[index] >= 0:
            return self._begins[index], self._ends[index]
        begin = self._begins[index] + offset - self._starts[index]
        return begin, begin + 1


def flowing(paragraph: str) -> str:
    """Return a paragraph as one line: lines and divided words are joined, the rest is unchanged."""
    return _FLOWING.sub(lambda match: _joined(match, paragraph), paragraph).strip()


def is_word(char: str) -> bool:
    """Whether this is a character of a word: a letter or digit of a script with spaces."""
    return char.isalnum() and not _IS_CJK.match(char)


def _normal(match: re.Match[str], text: str) -> str:
    if match["same"]:
        return _SAME[match[0]]
    if match["accented"]:
        return unicodedata.normalize("NFC", match[0])
    return _joined(match, text)


def _joined(match: re.Match[str], text: str) -> str:
    """Return the normal form of white space, a word's division or invisible characters."""
    if match["divided"] or match["unseen"]:
        return ""
    around = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    return "" if all(_IS_CJK.match(char) for char in around) else " "
