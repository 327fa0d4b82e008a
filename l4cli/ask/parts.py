"""Divides documents that do not fit the context into parts that do, and reports what was read.

This module is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l4cli.documents.document import Document
from l4cli.documents.split import Chunk, split


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks that are read together: a piece of a long document, or several small documents.

    `num_tokens` counts the chunks' texts and the label line above each.
    """

    chunks: tuple[Chunk, ...]
    num_tokens: int

    @property
    def pages(self) -> frozenset[tuple[str, int]]:
        """The pages that the part touches, as pairs of the document's digest and a page number."""
        return frozenset(
            (chunk.document.digest, page) for chunk in self.chunks for page in chunk.pages
        )

    @property
    def text(self) -> str:
        """The text for the model: each chunk below a label line with its place."""
        return "\n\n".join(_labelled(chunk) for chunk in self.chunks)

    def __str__(self) -> str:
        """Return the place, such as `manual.pdf, pages 1-14`; for several chunks, first … last."""
        first, last = str(self.chunks[0]), str(self.chunks[-1])
        return first if len(self.chunks) == 1 else f"{first} … {last}"


@dataclass(frozen=True, slots=True)
class PartFailure:
    """A part that could not be read, and the reason."""

    part: Part
    reason: str

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the documents an answer is based on.

    num_parts: parts of the documents.
    num_tokens: tokens of the parts that were read.
    num_pages: pages of the documents whose format has pages.
    num_pages_read: those of them that were read completely.
    num_notes: parts that had something on the question.
    num_cut: notes that were cut off at their token limit.
    num_rounds: rounds of merging until the notes fitted the context.
    failures: the parts that could not be read.
    """

    num_parts: int
    num_tokens: int
    num_pages: int
    num_pages_read: int
    num_notes: int
    num_cut: int
    num_rounds: int
    failures: tuple[PartFailure, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every part was read."""
        return not self.failures

    @property
    def num_read(self) -> int:
        return self.num_parts - len(self.failures)

    def lines(self) -> list[str]:
        """Return one line on what was read, and one for each part that was not."""
        cut = f"; the notes on {self.num_cut} of them ran to their limit" if self.num_cut else ""
        pages = f", {self.num_pages_read:,} of {self.num_pages:,} pages" if self.num_pages else ""
        covered = (
            f"read {self.num_read} of {self.num_parts} parts, {self.num_tokens:,} tokens{pages}; "
            f"{self.num_notes} of them had something on the question{cut}"
        )
        return [covered, *(f"not read: {failure}" for failure in self.failures)]


def parts_of(
    documents: Sequence[Document], max_tokens: int, count: Callable[[str], int]
) -> tuple[Part, ...]:
    """Divide documents into parts of at most `max_tokens` tokens each, labels included.

    Small documents share a part, in the given order. A document that fits into a part is never
    divided. `count` returns the number of tokens of a text. Raises ValueError if `max_tokens`
    leaves no room for text after the label.
    """
    chunks = [
        chunk
        for document in documents
        for chunk in split(document, max_tokens - _label_tokens(document, count), count)
    ]
    parts: list[Part] = []
    taken: list[Chunk] = []
    total = 0
    for chunk in chunks:
        size = chunk.num_tokens + _label_tokens(chunk.document, count)
        if taken and total + size > max_tokens:
            parts.append(Part(tuple(taken), total))
            taken, total = [], 0
        taken.append(chunk)
        total += size
    if taken:
        parts.append(Part(tuple(taken), total))
    return tuple(parts)


def _labelled(chunk: Chunk) -> str:
    return f"[{chunk}]\n{chunk.text.strip()}"


def _label_tokens(document: Document, count: Callable[[str], int]) -> int:
    """Return the most tokens that the label of a chunk can take, with the newlines around it."""
    headings = max((heading.title for heading in document.headings), key=len, default="")
    return count(f'\n\n[{document.name}, pages 00000-00000, "{headings}"]\n') + 2
