"""A document as the model reads it, and where each of its characters stands in the original."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: what of it the document's format has. Pages and lines count from 1.

    `heading` is the title of the innermost section.
    """

    page: int | None = None
    line: int | None = None
    heading: str | None = None

    def __str__(self) -> str:
        """As people write it: `page 12, "Priming the pump"`; "" where nothing is known."""
        parts = [
            f"page {self.page}" if self.page is not None else "",
            f"line {self.line}" if self.line is not None else "",
            f'"{self.heading}"' if self.heading else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Heading:
    """A title in the text, at `offset`; `level` 1 is the outermost."""

    offset: int
    level: int
    title: str


@dataclass(frozen=True)
class Document:
    """A text with its places.

    `name` is as the user gave it. `text` has "\\n" for line ends. `pages` are the offsets at which
    the pages begin, for formats that have them; `has_lines` tells that lines of the text are lines
    of the file. `headings` are in the order of the text.
    """

    name: str
    text: str
    pages: tuple[int, ...] = ()
    headings: tuple[Heading, ...] = ()
    has_lines: bool = False

    @property
    def num_pages(self) -> int | None:
        """How many pages it has; None for a format without."""
        return len(self.pages) or None

    @property
    def tagged(self) -> str:
        """The text between tags with its name, so that several can be told apart."""
        name = self.name.replace('"', "'")
        return f'<document name="{name}">\n{self.text.strip()}\n</document>'

    @cached_property
    def digest(self) -> str:
        """Stands for the text, whatever the file is called."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def place(self, offset: int) -> Place:
        """Where the character at `offset` stands; the text's end stands where its last one does."""
        if not 0 <= offset <= len(self.text):
            raise IndexError(f"offset {offset} is outside a text of {len(self.text)} characters")
        offset = min(offset, max(len(self.text) - 1, 0))
        return Place(
            page=_rank(self.pages, offset) if self.pages else None,
            line=_rank(self._lines, offset) if self.has_lines else None,
            heading=self._title(offset),
        )

    @cached_property
    def _lines(self) -> list[int]:
        starts, end = [0], self.text.find("\n")
        while end >= 0:
            starts.append(end + 1)
            end = self.text.find("\n", end + 1)
        return starts

    @cached_property
    def _heading_offsets(self) -> list[int]:
        return [heading.offset for heading in self.headings]

    def _title(self, offset: int) -> str | None:
        before = _rank(self._heading_offsets, offset)
        return self.headings[before - 1].title if before else None


def _rank(starts: Sequence[int], offset: int) -> int:
    """The number, from 1, of the last start that is not behind `offset`; 0 before the first."""
    return bisect_right(starts, offset)
