"""Splits a document into chunks with a maximum number of tokens, at natural boundaries. Pure.

Every character is in exactly one chunk. A chunk ends at the best boundary in its second half, in
this order: before a heading (the highest first), after a paragraph, a line, a sentence, a word.
Among equally good boundaries it is the last one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from l4cli.documents.document import Document, Place
from l4cli.documents.normalize import ACCENTS, CJK

MIN_TOKENS = 16  # smallest allowed maximum, because a single character may take several tokens

# Ranks of boundaries, the best first. The rank of a heading is its level, from 1.
_PARAGRAPH, _LINE, _SENTENCE, _WORD = 10, 11, 12, 13
_ENDS = {
    _PARAGRAPH: re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)*\n"),
    _LINE: re.compile(r"\n"),
    _SENTENCE: re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？；][”』」）]*"),
    _WORD: re.compile(rf"\s+|(?<=[{CJK}])"),
}
_IS_ACCENT = re.compile(f"[{ACCENTS}]")
_STRETCH = 16384  # characters that are tokenized together to estimate tokens per character
_FINENESS = 8  # a chunk is put together from pieces of at most 1/8 of its maximum


@dataclass(frozen=True, slots=True)
class Chunk:
    """The characters of a document from `start` up to `end`, which are `num_tokens` tokens."""

    document: Document
    start: int
    end: int
    num_tokens: int

    @property
    def text(self) -> str:
        return self.document.text[self.start : self.end]

    @property
    def place(self) -> Place:
        """The place of its first visible character."""
        text = self.text
        return self.document.place(self.start + len(text) - len(text.lstrip()))

    @property
    def pages(self) -> range:
        """The numbers of the pages that it overlaps; empty if the format has no pages."""
        if not self.document.pages:
            return range(0)
        first = self.place.page
        last = self.document.place(self.start + max(len(self.text.rstrip()), 1) - 1).page
        assert first is not None
        assert last is not None
        return range(first, last + 1)

    def __str__(self) -> str:
        """The place in words, as in `manual.pdf, pages 12-14, "Priming"`."""
        place, pages = self.place, self.pages
        where = f"pages {pages[0]}-{pages[-1]}" if len(pages) > 1 else ""
        heading = f'"{place.heading}"' if where and place.heading else "" if where else str(place)
        return ", ".join(part for part in (self.document.name, where, heading) if part)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run of characters of which chunks are put together.

    `rank` is the rank of the boundary at its end; `num_tokens` is an estimate.
    """

    start: int
    end: int
    rank: int
    num_tokens: float


def split(document: Document, max_tokens: int, count: Callable[[str], int]) -> list[Chunk]:
    """Split a document into chunks.

    max_tokens: the most tokens of a chunk, 16 or more.
    count: returns the number of tokens of a text.

    A tokenizer is slower with many short texts than with a few long ones. So the sizes of pieces
    are estimated from long runs of text, and only chunks are counted exactly.

    Raises ValueError if `max_tokens` is below 16, or if a single character has more tokens.
    """
    if max_tokens < MIN_TOKENS:
        raise ValueError(f"chunks of {max_tokens} tokens are too small; {MIN_TOKENS} or more")
    text = document.text
    pieces = list(_pieces(document, max_tokens, _Density(text, count)))
    chunks: list[Chunk] = []
    at = 0
    while at < len(pieces):
        start, budget = pieces[at].start, float(max_tokens)
        last = _last(pieces, at, budget)
        while (num_tokens := count(text[start : pieces[last].end])) > max_tokens:
            if last == at:
                pieces[at : at + 1] = _halves(text, pieces[at])
            total = sum(piece.num_tokens for piece in pieces[at : last + 1])
            budget = min(total * max_tokens / num_tokens, total - 1)
            last = _last(pieces, at, budget)
        chunks.append(Chunk(document, start, pieces[last].end, num_tokens))
        at = last + 1
    return chunks


class _Density:
    """Estimates tokens, from the tokens per character in each run of _STRETCH characters."""

    def __init__(self, text: str, count: Callable[[str], int]) -> None:
        self._values = [
            max(count(text[start : start + _STRETCH]), 1) / len(text[start : start + _STRETCH])
            for start in range(0, len(text), _STRETCH)
        ]

    def tokens(self, start: int, end: int) -> float:
        """Return an estimate of the tokens from `start` up to `end`."""
        return (end - start) * self._values[start // _STRETCH]


def _last(pieces: Sequence[_Piece], at: int, budget: float) -> int:
    """Return the index of the last piece of a chunk that begins with piece `at`.

    budget: the estimated tokens that the chunk may have.
    """
    total, best, is_half = 0.0, at, False
    for index in range(at, len(pieces)):
        total += pieces[index].num_tokens
        if total > budget:
            return best
        if not is_half or pieces[index].rank <= pieces[best].rank:
            best = index
        is_half = total * 2 >= budget
    return len(pieces) - 1  # all remaining pieces fit


def _pieces(document: Document, max_tokens: int, density: _Density) -> Iterator[_Piece]:
    """Yield the document's pieces in order: its paragraphs, divided further if they are long."""
    text = document.text
    limit = max(max_tokens / _FINENESS, MIN_TOKENS)
    ranks = dict.fromkeys(_cuts(text, 0, len(text), _PARAGRAPH), _PARAGRAPH)
    ranks |= {heading.offset: heading.level for heading in document.headings}
    ranks[len(text)] = 0
    start = 0
    for end in sorted(ranks):
        if end > start:
            whole = _Piece(start, end, ranks[end], density.tokens(start, end))
            yield from _divided(text, whole, limit, density, _LINE)
            start = end


def _divided(
    text: str, piece: _Piece, limit: float, density: _Density, level: int
) -> Iterator[_Piece]:
    """Yield the piece if it has at most `limit` tokens, else divide it at lines, sentences, words.

    level: the rank of boundary to divide at first.
    """
    if piece.num_tokens <= limit or level > _WORD:
        yield piece
        return
    begin = piece.start
    for end in [*_cuts(text, piece.start, piece.end, level), piece.end]:
        rank = piece.rank if end == piece.end else level
        part = _Piece(begin, end, rank, density.tokens(begin, end))
        yield from _divided(text, part, limit, density, level + 1)
        begin = end


def _halves(text: str, piece: _Piece) -> tuple[_Piece, _Piece]:
    """Divide a word that is too long for a chunk in two; ValueError if it is one character."""
    middle = (piece.start + piece.end) // 2
    while middle > piece.start and _IS_ACCENT.match(text, middle):
        middle -= 1
    if middle == piece.start:
        raise ValueError("a single character takes more tokens than a chunk may have")
    size = piece.num_tokens / 2
    first = _Piece(piece.start, middle, _WORD, size)
    return first, _Piece(middle, piece.end, piece.rank, size)


def _cuts(text: str, start: int, end: int, level: int) -> list[int]:
    """Return the boundaries of one level strictly between `start` and `end`."""
    ends = (match.end() for match in _ENDS[level].finditer(text, start, end))
    return sorted({cut for cut in ends if start < cut < end})
