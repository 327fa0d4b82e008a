"""Texts -> chunks of equal length. Pure.

As llama-imatrix cuts them: chunks do not overlap, BOS takes the place of each chunk's first token
if the vocabulary adds one, and what is left behind the last whole chunk of a text is not used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l4cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Source:
    """A text's tokens; `name` is for messages and for the file's list of texts."""

    name: str
    tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of all texts, numbered through, text by text.

    n_ctx: tokens of a chunk. bos: what replaces a chunk's first token; None for nothing.
    """

    sources: Sequence[Source]
    n_ctx: int
    bos: int | None

    @property
    def ends(self) -> list[int]:
        """For each text, the number behind its last chunk."""
        ends, end = [], 0
        for source in self.sources:
            end += len(source.tokens) // self.n_ctx
            ends.append(end)
        return ends

    @property
    def count(self) -> int:
        return self.ends[-1]

    def source_of(self, chunk: int) -> int:
        """Return which text a chunk is of."""
        return next(at for at, end in enumerate(self.ends) if chunk < end)

    def ids(self, chunk: int) -> list[int]:
        """Return a chunk's tokens as the model gets them."""
        at = self.source_of(chunk)
        start = (chunk - (self.ends[at - 1] if at else 0)) * self.n_ctx
        ids = list(self.sources[at].tokens[start : start + self.n_ctx])
        if self.bos is not None:
            ids[0] = self.bos
        return ids

    @property
    def digest(self) -> str:
        """Identifies the chunks: their tokens, length and order."""
        digest = hashlib.sha256(f"{self.n_ctx} {self.bos}".encode())
        for source in self.sources:
            digest.update(b"|" + np.asarray(source.tokens, "<i4").tobytes())
        return digest.hexdigest()[:32]


def cut(sources: Sequence[Source], n_ctx: int, bos: int | None) -> Chunks:
    """Return the chunks of texts. InputError for a text that has less than one."""
    for source in sources:
        if len(source.tokens) < n_ctx:
            raise InputError(
                f"{source.name}: it has {len(source.tokens):,} tokens, but a chunk has {n_ctx:,}: "
                "give a longer text or a smaller --ctx"
            )
    return Chunks(sources, n_ctx, bos)
