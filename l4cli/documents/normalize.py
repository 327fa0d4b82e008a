"""Two ways of writing the same words, made one: what a quotation and its source differ in.

White space, typographic quotation marks, apostrophes and dashes, ligatures, accents written as
characters of their own, soft hyphens, and words divided at the ends of lines. Nothing else:
letters, digits and punctuation stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right

# Scripts that are written without spaces: a line end in them stands for nothing.
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
_SPACE = rf"[^\S ]\s*| \s+|(?<=[{CJK}]) (?=[{CJK}])"  # all but a single space between words
_DIFFERENT = re.compile(
    rf"(?P<divided>{_DIVIDED})|(?P<space>{_SPACE})|(?P<unseen>[{_UNSEEN}]+)"
    rf"|(?P<same>[{''.join(_SAME)}])|(?P<accented>\w[{ACCENTS}]+)"
)
_FLOWING = re.compile(rf"(?P<divided>{_DIVIDED})|(?P<unseen>[{_UNSEEN}]+)|\s+")
_IS_CJK = re.compile(f"[{CJK}]")


class Normalized:
    """A text in normal form, and the way back to where each of its characters comes from.

    `joints` are the offsets, in normal form, at which a divided word was put together.
    """

    def __init__(self, original: str) -> None:
        parts: list[str] = []
        # Stretches of the normal form: where each begins, and where what it stands for begins and
        # ends; the end is -1 for stretches that were copied.
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
        """Where the characters from `start` up to `end` of the normal form are in the original."""
        return self._original(start)[0], self._original(end - 1)[1]

    def _add(self, start: int, begin: int, end: int) -> None:
        self._starts.append(start)
        self._begins.append(begin)
        self._ends.append(end)

    def _original(self, offset: int) -> tuple[int, int]:
        """The stretch of the original that one character stands for."""
        index = bisect_right(self._starts, offset) - 1
        if self._ends[index] >= 0:
            return self._begins[index], self._ends[index]
        begin = self._begins[index] + offset - self._starts[index]
        return begin, begin + 1


def flowing(paragraph: str) -> str:
    """A paragraph as one line: lines joined, divided words put together, all else as it is."""
    return _FLOWING.sub(lambda match: _joined(match, paragraph), paragraph).strip()


def is_word(char: str) -> bool:
    """Whether a word goes on at this character: a letter or digit of a script with spaces."""
    return char.isalnum() and not _IS_CJK.match(char)


def _normal(match: re.Match[str], text: str) -> str:
    if match["same"]:
        return _SAME[match[0]]
    if match["accented"]:
        return unicodedata.normalize("NFC", match[0])
    return _joined(match, text)


def _joined(match: re.Match[str], text: str) -> str:
    """What stands for white space, or for nothing."""
    if match["divided"] or match["unseen"]:
        return ""
    around = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    return "" if all(_IS_CJK.match(char) for char in around) else " "
