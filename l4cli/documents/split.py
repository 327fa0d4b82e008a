"""A document cut into chunks of at most so many tokens, where its author would cut it. Pure.

Every character is in exactly one chunk. A chunk ends, if one lies in its second half, before the
highest heading, else at the end of a paragraph, a line, a sentence, a word; the latest of those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from l4cli.documents.document import Document, Place
from l4cli.documents.normalize import ACCENTS, CJK

MIN_TOKENS = 16  # the least a chunk must be allowed: a single character may take several

# Ranks of places to cut at; headings have their level, from 1.
_PARAGRAPH, _LINE, _SENTENCE, _WORD = 10, 11, 12, 13
_ENDS = {
    _PARAGRAPH: re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)*\n"),
    _LINE: re.compile(r"\n"),
    _SENTENCE: re.compile(r"[.!?…][\"'”’)\]]*\s+|[。！？；][”』」）]*"),
    _WORD: re.compile(rf"\s+|(?<=[{CJK}])"),
}
_IS_ACCENT = re.compile(f"[{ACCENTS}]")
_STRETCH = 16384  # characters that tokens are estimated from
_FINENESS = 8  # pieces that chunks are put together from are at most this part of one


@dataclass(frozen=True, slots=True)
class Chunk:
    """The stretch of a document from `start` up to `end`, `num_tokens` long."""

    document: Document
    start: int
    end: int
    num_tokens: int

    @property
    def text(self) -> str:
        return self.document.text[self.start : self.end]

    @property
    def place(self) -> Place:
        """Where its first visible character stands."""
        text = self.text
        return self.document.place(self.start + len(text) - len(text.lstrip()))

    @property
    def pages(self) -> range:
        """The numbers of the pages it has a part of; none for formats without."""
        if not self.document.pages:
            return range(0)
        first = self.place.page
        last = self.document.place(self.start + max(len(self.text.rstrip()), 1) - 1).page
        assert first is not None
        assert last is not None
        return range(first, last + 1)

    def __str__(self) -> str:
        """Its place as people write it: `manual.pdf, pages 12-14, "Priming"`."""
        place, pages = self.place, self.pages
        where = f"pages {pages[0]}-{pages[-1]}" if len(pages) > 1 else ""
        heading = f'"{place.heading}"' if where and place.heading else "" if where else str(place)
        return ", ".join(part for part in (self.document.name, where, heading) if part)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch to put chunks together from; `rank` is that of its end, its size an estimate."""

    start: int
    end: int
    rank: int
    num_tokens: float


def split(document: Document, max_tokens: int, count: Callable[[str], int]) -> list[Chunk]:
    """Chunks of at most `max_tokens` (16 or more) by `count`, which gives a text's tokens.

    A tokenizer takes longer for many short texts than for a few long ones: sizes are estimated from
    long stretches, and each chunk's is counted. ValueError for fewer than 16 tokens, or where a
    single character has more.
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
    """How many tokens a character has, about, in each stretch of a text."""

    def __init__(self, text: str, count: Callable[[str], int]) -> None:
        self._values = [
            max(count(text[start : start + _STRETCH]), 1) / len(text[start : start + _STRETCH])
            for start in range(0, len(text), _STRETCH)
        ]

    def tokens(self, start: int, end: int) -> float:
        """An estimate of the tokens from `start` up to `end`."""
        return (end - start) * self._values[start // _STRETCH]


def _last(pieces: Sequence[_Piece], at: int, budget: float) -> int:
    """The piece to end a chunk with that begins with piece `at`."""
    total, best, is_half = 0.0, at, False
    for index in range(at, len(pieces)):
        total += pieces[index].num_tokens
        if total > budget:
            return best
        if not is_half or pieces[index].rank <= pieces[best].rank:
            best = index
        is_half = total * 2 >= budget
    return len(pieces) - 1  # all that is left fits


def _pieces(document: Document, max_tokens: int, density: _Density) -> Iterator[_Piece]:
    """The document in order: its paragraphs, divided further where they are long."""
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
    """A piece as it is if it has at most `limit` tokens, else cut at lines, sentences, words."""
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
    """A word too long for a chunk, cut in two; ValueError where it is but one character."""
    middle = (piece.start + piece.end) // 2
    while middle > piece.start and _IS_ACCENT.match(text, middle):
        middle -= 1
    if middle == piece.start:
        raise ValueError("a single character takes more tokens than a chunk may have")
    size = piece.num_tokens / 2
    first = _Piece(piece.start, middle, _WORD, size)
    return first, _Piece(middle, piece.end, piece.rank, size)


def _cuts(text: str, start: int, end: int, level: int) -> list[int]:
    """Where a stretch can be cut on one level; neither at its beginning nor at its end."""
    ends = (match.end() for match in _ENDS[level].finditer(text, start, end))
    return sorted({cut for cut in ends if start < cut < end})
