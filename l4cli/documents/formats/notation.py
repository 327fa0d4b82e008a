"""Writes superscripts, subscripts and formulas in a line, so that they never change a number.

"10" with a raised "6" becomes `10^6`, "H", a lowered "2" and "O" becomes `H_2O`, and a note's
number after a year becomes `1999[1]`.

A reader that meets raised text one piece at a time does not know what stands around it. So it marks
the text with `raised`, `lowered`, `note` and `apart`, and calls `in_line` on the whole text at its
end. The marks are Unicode noncharacters, which `without_marks` removes from documents beforehand.
"""

from __future__ import annotations

import re

_RAISED, _LOWERED, _NOTE, _END, _APART = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4"
_ANY_MARK = re.compile(f"[{_RAISED}-{_APART}]")
_SIGNS = {_RAISED: "^", _LOWERED: "_"}
# A mark and its end, with nothing but text between them.
_INNERMOST = re.compile(f"([{_RAISED}{_LOWERED}{_NOTE}])([^{_RAISED}-{_END}]*){_END}")
_FRACTION = re.compile(
    f"(\\d?){_RAISED}\\s*(\\d+)\\s*{_END}\\s*[/\u2044\u2215]\\s*{_LOWERED}\\s*(\\d+)\\s*{_END}(\\d?)"
)
_GLUED = re.compile(f"(?<=[^\\W_]|\\]){_APART}+(?=[^\\W_]|\\[)")
_ATOM = re.compile(r"[-+−–±]?[^\W_]+(?:[.,·'′][^\W_]+)*[-+−–*′]?")
_BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]")
_SYMBOLS = re.compile(r"[^\w+−–-]+")  # ®, *, °, †: they stay as they are
_ORDINALS = frozenset(
    ("st", "nd", "rd", "th", "er", "ers", "re", "res", "ère", "ème", "èmes", "eme", "nde", "os")
)


def raised(text: str) -> str:
    """Mark a superscript."""
    return f"{_RAISED}{text}{_END}"


def lowered(text: str) -> str:
    """Mark a subscript."""
    return f"{_LOWERED}{text}{_END}"


def note(text: str) -> str:
    """Mark a reference to a footnote or endnote."""
    return f"{_NOTE}{text}{_END}"


def apart(text: str) -> str:
    """Mark text that must not be glued to the letters and digits beside it."""
    return f"{_APART}{text}{_APART}"


def without_marks(text: str) -> str:
    """Return a document's text without the characters that are used as marks here."""
    return _ANY_MARK.sub("", text)


def in_line(text: str) -> str:
    """Replace all marks in a text."""
    text = _FRACTION.sub(_fraction, text)
    while _INNERMOST.search(text):
        text = _INNERMOST.sub(lambda match: _resolved(match, text), text)  # noqa: B023
    return _ANY_MARK.sub("", _GLUED.sub(" ", text))


def script(sign: str, text: str) -> str:
    """Return `text` as an exponent (sign "^") or index (sign "_"), in brackets if it needs them."""
    if not text:
        return ""
    return f"{sign}{grouped(text)}"


def grouped(text: str) -> str:
    """Return a part of a formula so that it stays together: in brackets unless it is one word."""
    return text if _ATOM.fullmatch(text) or _BRACKETED.fullmatch(text) else f"({text})"


def _fraction(match: re.Match[str]) -> str:
    """Return "3", a raised 1, "/" and a lowered 2 as "3 1/2"."""
    before, above, below, after = match.groups()
    return f"{before}{before and ' '}{above}/{below}{after and ' '}{after}"


def _resolved(match: re.Match[str], text: str) -> str:
    mark, inside = match.groups()
    content = inside.strip()
    if not content:
        return inside
    start = inside.index(content)
    leading, trailing = inside[:start], inside[start + len(content) :]
    before = _outside(text, match.start(), -1)
    if mark == _NOTE:
        return f"{leading}{content if _BRACKETED.fullmatch(content) else f'[{content}]'}{trailing}"
    if _SYMBOLS.fullmatch(content):
        return f"{leading}{content}{trailing}"
    if before.isdigit() and content.lower() in _ORDINALS:
        return f"{content}{trailing}"
    is_set_small = any(map(str.isspace, content)) and (not before or before.isspace())
    if is_set_small:  # a remark in small print, not an exponent
        return f"{leading}{content}{trailing}"
    written = script(_SIGNS[mark], content)
    after = _outside(text, match.end(), 1)
    if not trailing and not written.endswith((")", "]")) and _runs_on(content, after, text, match):
        written = f"{_SIGNS[mark]}({content})"
    return f"{written}{trailing}"


def _runs_on(content: str, after: str, text: str, match: re.Match[str]) -> bool:
    """Whether the text after a script would be read as a part of it."""
    if after in ".,":
        follows = text[match.end() + 1 : match.end() + 2]
        return bool(after) and content[-1].isdigit() and follows.isdigit()
    return (content[-1].isdigit() and after.isdigit()) or (
        content[-1].isalpha() and after.isalpha()
    )


def _outside(text: str, at: int, step: int) -> str:
    """Return the visible character beside an offset, before it if `step` is -1; "" at an end."""
    index = at - 1 if step < 0 else at
    while 0 <= index < len(text):
        if not _ANY_MARK.match(text[index]):
            return text[index]
        if text[index] in (_RAISED, _LOWERED, _NOTE):
            return ""  # another script begins
        index += step
    return ""
