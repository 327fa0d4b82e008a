"""Cuts a text into chunks, and says which tokens each decode computes. Pure.

The definition is llama-perplexity's: chunks of n_ctx tokens that do not overlap; BOS in place of
each chunk's first token, if the vocabulary adds one; the tokens of the second half are scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from l4cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Chunks:
    """A text's tokens in chunks.

    tokens: all tokens of the text; what is left behind the last whole chunk is not used.
    n_ctx: tokens of a chunk.
    count: number of chunks.
    bos: the token that replaces each chunk's first one; None if the vocabulary adds none.
    """

    tokens: Sequence[int]
    n_ctx: int
    count: int
    bos: int | None = None

    @property
    def first(self) -> int:
        """The position whose logits are the first to be scored: they predict the token after it."""
        return self.n_ctx // 2

    @property
    def num_scored(self) -> int:
        """Tokens of each chunk that are scored."""
        return self.n_ctx - 1 - self.first

    def ids(self, chunk: int, start: int, stop: int) -> list[int]:
        """The tokens of a chunk from position `start` to `stop`, as the model gets them."""
        at = chunk * self.n_ctx
        ids = list(self.tokens[at + start : at + stop])
        if start == 0 and ids and self.bos is not None:
            ids[0] = self.bos
        return ids

    def targets(self, chunk: int, start: int, stop: int) -> list[int]:
        """The tokens that follow the positions `start` to `stop`; none behind the last one."""
        at = chunk * self.n_ctx + 1
        return list(self.tokens[at + start : at + min(stop, self.n_ctx - 1)])


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive positions of one chunk."""

    chunk: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Step:
    """What one decode computes: a piece whose logits are scored, one that only fills the context.

    The two are of neighbouring chunks. So a decode of `2 * n` tokens needs `n` rows of logits: rows
    of a large vocabulary take more memory than anything else.
    """

    scored: Piece | None
    filling: Piece | None

    @property
    def num_tokens(self) -> int:
        """Tokens that the step computes."""
        return sum(piece.stop - piece.start for piece in (self.scored, self.filling) if piece)


def cut(tokens: Sequence[int], n_ctx: int, most: int | None, bos: int | None, name: str) -> Chunks:
    """Return the chunks of a text.

    most: chunks to use, from the beginning; None for all.
    name: the text's name, for the error.

    Raises InputError if the text has less than two chunks, as llama-perplexity does.
    """
    if len(tokens) < 2 * n_ctx:
        raise InputError(
            f"{name}: it has {len(tokens):,} tokens, but two contexts of {n_ctx:,} need "
            f"{2 * n_ctx:,}: give a longer text or a smaller --ctx"
        )
    whole = len(tokens) // n_ctx
    return Chunks(tokens, n_ctx, whole if most is None else min(most, whole), bos)


def steps(chunks: Chunks, width: int) -> Iterator[Step]:
    """Yield the steps in which all chunks are computed.

    width: most rows of logits in a step.
    """
    first, n_ctx = chunks.first, chunks.n_ctx
    for chunk in range(chunks.count + 1):
        filling = chunk if chunk < chunks.count else None
        scored = chunk - 1 if chunk else None
        for at in range(0, n_ctx - first, width):
            fill = fill_piece = None
            if filling is not None and at < first:
                fill = min(at + width, first)
                fill_piece = Piece(filling, at, fill)
            score_piece = None
            if scored is not None:
                score_piece = Piece(scored, first + at, min(first + at + width, n_ctx))
            if fill_piece or score_piece:
                yield Step(score_piece, fill_piece)
