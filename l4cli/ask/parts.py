"""What does not fit, as parts that do: chunks of documents, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l4cli.documents.document import Document
from l4cli.documents.split import Chunk, split


@dataclass(frozen=True, slots=True)
class Part:
    """Chunks that are read together: a stretch of one document, or several small documents.

    `num_tokens` counts their texts with the lines that say where each is from.
    """

    chunks: tuple[Chunk, ...]
    num_tokens: int

    @property
    def text(self) -> str:
        """What the model reads: every chunk under a line that says where it is from."""
        return "\n\n".join(_labelled(chunk) for chunk in self.chunks)

    def __str__(self) -> str:
        """Its place as people write it: `manual.pdf, pages 1-14`; of several, first and last."""
        first, last = str(self.chunks[0]), str(self.chunks[-1])
        return first if len(self.chunks) == 1 else f"{first} … {last}"


@dataclass(frozen=True, slots=True)
class PartFailure:
    """A part that could not be read, and why."""

    part: Part
    reason: str

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the documents an answer rests on.

    `num_notes` of the parts that were read had something to say; the notes of `num_cut` parts ran
    to their limit. `num_rounds` is how often notes had to be merged until they fitted.
    """

    num_parts: int
    num_tokens: int
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
        """The same in words, a line for what was covered and one for each part that was not."""
        cut = f"; the notes on {self.num_cut} of them ran to their limit" if self.num_cut else ""
        covered = (
            f"read {self.num_read} of {self.num_parts} parts, {self.num_tokens:,} tokens; "
            f"{self.num_notes} of them had something on the question{cut}"
        )
        return [covered, *(f"not read: {failure}" for failure in self.failures)]


def parts_of(
    documents: Sequence[Document], max_tokens: int, count: Callable[[str], int]
) -> tuple[Part, ...]:
    """Parts of at most `max_tokens`, the lines that say where they are from included.

    Documents that are small are read together, in their order; none is cut that fits. ValueError
    where `max_tokens` leaves no room beside such a line.
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
    """The most that a line saying where a chunk is from can take, with the line ends around it."""
    headings = max((heading.title for heading in document.headings), key=len, default="")
    return count(f'\n\n[{document.name}, pages 00000-00000, "{headings}"]\n') + 2
