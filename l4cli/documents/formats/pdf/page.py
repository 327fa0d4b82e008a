"""The text of one page of a PDF: its characters, scripts, form fields and comments in their places.

PDFium returns characters in reading order, with line breaks that it generates. It breaks the line
after most superscripts, so `scripts` also tells which breaks to remove.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.documents.formats.notation import in_line, lowered, raised, without_marks
from l4cli.documents.formats.pdf.scripts import Glyph, Script, scripts

# A script that the end of a line divides behind its sign, as in 10^(-), end of line, ^7.
# In a narrow cell its digits are alone in their line: nothing shows there that they are raised.
_DIVIDED = re.compile(r"([\^_])\(([-\u2212+])\)([ \r\n]*[\r\n] *)\1(\d+)(?!\d) ?")
_ALONE = re.compile(r"(?<=\d)\^\(([-\u2212+])\)([ \r\n]*[\r\n] *)(\d+)(?=\s*[\r\n]|\s*\Z)")
_WORD_SPACE = 0.2  # of the font size; less is no space


@dataclass(frozen=True, slots=True)
class Inset:
    """Text that belongs on a page but not to its content, and its box in points from below."""

    text: str
    left: float
    bottom: float
    right: float
    top: float


class PageText:
    """The characters of a page. `textpage` is PDFium's text page, which must stay open."""

    def __init__(self, textpage: Any) -> None:
        import pypdfium2.raw as pdfium

        self._raw, self._textpage = pdfium, textpage
        self._n_chars = textpage.count_chars()

    def text(self, insets: Sequence[Inset]) -> str:
        """Return the text, with `insets` in their lines and scripts in a line."""
        glyphs = list(self._glyphs())
        found = list(scripts(glyphs, self._size, self._right))
        if not found and not insets:
            return str(self._textpage.get_text_range())
        chars = [without_marks(chr(self._code(index))) for index in range(self._n_chars)]
        for index in range(self._n_chars):
            if self._raw.FPDFText_IsHyphen(self._textpage, index):
                chars[index] = "\ufffe"
        # The insets first: they are placed by glyphs, whose characters stay where they are.
        for index, text in _placed(insets, glyphs):
            if 0 <= index < len(chars):
                chars[index] = text + chars[index]
            else:
                chars.append(text)
        for script in found:
            self._write(script, chars)
        text = in_line("".join(chars)).replace("\0", "")
        text = _ALONE.sub(r"^\1\3\2", _DIVIDED.sub(r"\1\2\4\3", text))
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _write(self, script: Script, chars: list[str]) -> None:
        """Mark a script, and remove the line breaks that PDFium generated around it."""
        for index in (*script.gap_before, *script.gap_after):
            if self._raw.FPDFText_IsGenerated(self._textpage, index):
                chars[index] = chars[index].strip("\r\n")
        if self._is_apart(script) and not "".join(chars[i] for i in script.gap_after):
            chars[script.gap_after[0]] = " "
        mark = raised if script.is_raised else lowered
        marked = mark("".join(chars[script.start : script.end]))
        chars[script.start : script.end] = [marked, *[""] * (script.end - script.start - 1)]

    def _is_apart(self, script: Script) -> bool:
        """Whether a word space is behind a script. PDFium drops it with the line break."""
        if not script.gap_after:
            return False
        following, x, y = script.gap_after.stop, ctypes.c_double(), ctypes.c_double()
        self._raw.FPDFText_GetCharOrigin(
            self._textpage.raw, following, ctypes.byref(x), ctypes.byref(y)
        )
        return x.value - self._right(script.end - 1) > _WORD_SPACE * self._size(following)

    def _glyphs(self) -> Iterator[Glyph]:
        x, y = ctypes.c_double(), ctypes.c_double()
        at_x, at_y = ctypes.byref(x), ctypes.byref(y)
        origin, textpage = self._raw.FPDFText_GetCharOrigin, self._textpage.raw
        for index in range(self._n_chars):
            code = self._code(index)
            if code > 32 and code != 0xA0 and origin(textpage, index, at_x, at_y):
                yield Glyph(index, x.value, y.value)

    def _code(self, index: int) -> int:
        return int(self._raw.FPDFText_GetUnicode(self._textpage.raw, index))

    def _size(self, index: int) -> float:
        """Return a character's font size on the page, in points."""
        matrix = self._raw.FS_MATRIX()
        self._raw.FPDFText_GetMatrix(self._textpage, index, matrix)
        scale = (matrix.c**2 + matrix.d**2) ** 0.5
        return float(self._raw.FPDFText_GetFontSize(self._textpage, index) * scale)

    def _right(self, index: int) -> float:
        """Return the right end of a character's advance."""
        box = self._raw.FS_RECTF()
        self._raw.FPDFText_GetLooseCharBox(self._textpage, index, box)
        return float(box.right)


def _placed(insets: Iterable[Inset], glyphs: Sequence[Glyph]) -> Iterator[tuple[int, str]]:
    """Yield for each inset the index of the character to put it before (-1: the end), and its text.

    An inset stands in the line at its height, after the characters on its left; if there is none at
    its height, in a line of its own.
    """
    lines = _lines(glyphs)
    for inset in sorted(insets, key=lambda inset: (inset.top, -inset.left)):
        middle = (inset.top + inset.bottom) / 2
        slack = max(4.0, min(inset.top - inset.bottom, 24.0) / 2)
        beside = [line for line in lines if -slack <= middle - line[0].y <= slack * 2]
        lefts = [
            (inset.left - glyph.x, number, line)
            for line in beside
            for number, glyph in enumerate(line)
            if glyph.x < inset.left + 2
        ]
        rights = [(line[0].x - inset.left, line) for line in beside if line[0].x >= inset.left + 2]
        if lefts:
            _, number, line = min(lefts, key=lambda left: left[0])
            last = line[number]
            yield last.index + 1, f" {inset.text} " if number + 1 < len(line) else f" {inset.text}"
        elif rights:
            yield min(rights, key=lambda right: right[0])[1][0].index, f"{inset.text} "
        else:
            below = next((line for line in lines if line[0].y < middle), None)
            yield (below[0].index, f"{inset.text}\n") if below else (-1, f"\n{inset.text}")


def _lines(glyphs: Sequence[Glyph]) -> list[list[Glyph]]:
    """Return runs of glyphs with the same baseline, from left to right."""
    lines: list[list[Glyph]] = []
    for glyph in glyphs:
        before = lines[-1][-1] if lines else None
        if before and abs(glyph.y - before.y) < 1 and glyph.x >= before.x:
            lines[-1].append(glyph)
        else:
            lines.append([glyph])
    return lines
