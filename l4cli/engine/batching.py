"""Which tokens of which running sequences go into the next batch. Pure.

In a pool, sequences that decode go first and prompts fill the rest of `n_batch`. In regions
llama.cpp never computes the two together: there prompts go first, and sequences decode when all
can.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from l4cli.engine.sequence import Sequence

TILE = 64  # tokens of a sequence that flash attention on a CPU takes at once: GGML_FA_TILE_Q
WASTED = 1 / 8  # of a prompt's tokens, the most to compute twice or later for whole tiles
_NEARLY = 0.8  # as long as the longest: worth cutting all to the same length
_ODD_END = 4  # tokens: of a prompt, computed one a step beside what decodes


class Room(Protocol):
    """The part of a Backend that says what a batch can hold."""

    n_batch: int
    n_ubatch: int
    unified: bool

    @property
    def min_prefill(self) -> int | None: ...


class Chunk(NamedTuple):
    """Tokens of a sequence from `start` to `stop`; `is_last` where they reach its end."""

    sequence: Sequence
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        return self.stop == len(self.sequence.tokens)

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start

    def rest(self) -> Chunk:
        """The part of it that has not been computed yet."""
        return Chunk(self.sequence, self.sequence.num_computed_tokens, self.stop)


def next_batch(running: list[Sequence], room: Room) -> list[Chunk]:
    """What these sequences compute next, by sequence id, as llama.cpp wants it."""
    if room.unified:
        return sorted(_fill(sorted(running, key=_catches_up), room.n_batch), key=_seq_id)
    running = sorted(running, key=lambda sequence: sequence.seq_id)
    prompts = [sequence for sequence in running if sequence.num_pending_tokens > _ODD_END]
    return _in_regions(prompts, room) if prompts else _fill(running, room.n_batch, each=1)


def _in_regions(prompts: list[Sequence], room: Room) -> list[Chunk]:
    """Of prompts over a cache in regions, those to compute next.

    Those that begin anew are computed apart where they are enough, in pieces of any length. Of the
    others the longest and their like, whole if they can be, in one ubatch: where llama.cpp takes a
    few tokens of each of many, flash attention reads the cache anew for every one.
    """
    if room.min_prefill is not None:
        anew = [sequence for sequence in prompts if not sequence.num_cached_tokens]
        if sum(sequence.num_pending_tokens for sequence in anew) >= room.min_prefill:
            return _fill(anew, room.n_batch)
    budget = min(room.n_batch, room.n_ubatch)
    longest = max(sequence.num_pending_tokens for sequence in prompts)
    least = _NEARLY * min(longest, budget)
    return _level(_fill((s for s in prompts if s.num_pending_tokens >= least), budget))


def _level(prompts: list[Chunk]) -> list[Chunk]:
    """Prompts of nearly the same length cut to the same, the rest of them left for later steps.

    Where each sequence has a region of the cache, llama.cpp computes a batch in pieces of equally
    many tokens from every sequence: odd ends would be small pieces of their own, each as dear as a
    decode. As single tokens beside those that decode they cost next to nothing.
    """
    shortest = min((chunk.num_tokens for chunk in prompts if chunk.is_last), default=0)
    if not shortest:
        return prompts
    if len(prompts) > 1 and shortest % TILE < WASTED * shortest:
        shortest -= shortest % TILE
    return [
        Chunk(chunk.sequence, chunk.start, chunk.start + shortest)
        for chunk in prompts
        if chunk.num_tokens >= shortest  # what the budget cut short waits for its like
    ]


def _fill(sequences: Iterable[Sequence], budget: int, each: int | None = None) -> list[Chunk]:
    """What these have pending, as far as the budget goes, at most `each` tokens of one."""
    chunks = []
    for sequence in sequences:
        count = min(sequence.num_pending_tokens, each or budget, budget)
        if count:
            start = sequence.num_computed_tokens
            chunks.append(Chunk(sequence, start, start + count))
            budget -= count
    return chunks


def _catches_up(sequence: Sequence) -> bool:
    return sequence.num_pending_tokens > 1


def _seq_id(chunk: Chunk) -> int:
    return chunk.sequence.seq_id
