"""A document: its text for the model, and the place in the original of each character."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a document; a field is None if the format does not have it.

    page, line: counted from 1. heading: the title of the innermost section.
    """

    page: int | None = None
    line: int | None = None
    heading: str | None = None

    def __str__(self) -> str:
        """The place in words, as in `page 12, "Priming the pump"`; "" if nothing is known."""
        parts = [
            f"page {self.page}" if self.page is not None else "",
            f"line {self.line}" if self.line is not None else "",
            f'"{self.heading}"' if self.heading else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in the text, at character `offset`; `level` 1 is the outermost."""

    offset: int
    level: int
    title: str


@dataclass(frozen=True)
class Document:
    """A document's text, with its pages, headings and lines.

    name: as the user gave it.
    text: lines end in "\\n".
    pages: the offsets at which pages begin; empty if the format has no pages.
    headings: in the order of the text.
    has_lines: whether lines of the text are lines of the file.
    """

    name: str
    text: str
    pages: tuple[int, ...] = ()
    headings: tuple[Heading, ...] = ()
    has_lines: bool = False

    @property
    def num_pages(self) -> int | None:
        """The number of pages; None if the format has none."""
        return len(self.pages) or None

    @property
    def tagged(self) -> str:
        """The text between tags that contain its name, for prompts with several documents."""
        name = self.name.replace('"', "'")
        return f'<document name="{name}">\n{self.text.strip()}\n</document>'

    @cached_property
    def digest(self) -> str:
        """Identifies the text, whatever the file's name."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def place(self, offset: int) -> Place:
        """Return the place of the character at `offset`; the text's end is at its last one."""
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
    """Return the number, from 1, of the last start at or before `offset`; 0 if there is none."""
    return bisect_right(starts, offset)


def marked(document: Document) -> str:
    """Return the text with a line such as `--- page 2, "Priming"` wherever its place changes.

    It shows people what the model reads. The first line names the document; the lines of text files
    are numbered.
    """
    parts = [f"--- {document.name}\n"]
    before, offset = Place(), 0
    for number, line in enumerate(document.text.rstrip("\n").split("\n"), 1):
        place = document.place(offset + len(line) - len(line.lstrip()))
        here = Place(page=place.page, heading=place.heading)
        if line.strip() and here != before:
            parts.append(f"--- {here}\n")
            before = here
        parts.append(f"{number:>6}  {line}\n" if document.has_lines else f"{line}\n")
        offset += len(line) + 1
    return "".join(parts)
