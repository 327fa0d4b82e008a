"""Chooses the tokens of the running sequences that the next batch computes. Pure.

In a pool, sequences that decode go first, and prompts fill the rest of `n_batch`. In regions,
llama.cpp never computes both together: prompts go first, and sequences decode when no prompt is
left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from l4cli.engine.sequence import Sequence

TILE = 64  # tokens of a sequence that flash attention on a CPU takes at once: GGML_FA_TILE_Q
WASTED = 1 / 8  # the largest share of a prompt to compute twice or later to fill whole tiles
_NEARLY = 0.8  # prompts with this share of the longest one's tokens are computed together with it
_ODD_END = 4  # tokens; the last ones of a prompt are computed one per step, like decoding


class Room(Protocol):
    """The attributes of a Backend that say what a batch can hold."""

    n_batch: int
    n_ubatch: int
    unified: bool

    @property
    def min_prefill(self) -> int | None: ...


class Chunk(NamedTuple):
    """Tokens `start` to `stop` of a sequence; `is_last` if they include its last token."""

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
        """The part of the chunk that has not been computed yet."""
        return Chunk(self.sequence, self.sequence.num_computed_tokens, self.stop)


def next_batch(running: list[Sequence], room: Room, *, answers_first: bool = False) -> list[Chunk]:
    """The chunks to compute next, in the order of sequence ids, as llama.cpp needs them.

    answers_first: in regions, answers come before prompts, if any is running.
    """
    if room.unified:
        return sorted(_fill(sorted(running, key=_catches_up), room.n_batch), key=_seq_id)
    running = sorted(running, key=lambda sequence: sequence.seq_id)
    prompts = [sequence for sequence in running if is_prompt(sequence)]
    if answers_first and len(prompts) < len(running):
        running, prompts = [one for one in running if not is_prompt(one)], []
    return _in_regions(prompts, room) if prompts else _fill(running, room.n_batch, each=1)


def is_prompt(sequence: Sequence) -> bool:
    """Whether a prompt is being computed, but for its last tokens, which count as decoding."""
    return sequence.num_pending_tokens > _ODD_END


def _in_regions(prompts: list[Sequence], room: Room) -> list[Chunk]:
    """The chunks of prompts to compute next, for a cache in regions.

    Prompts without a reused prefix are computed apart if they have `min_prefill` tokens together;
    their chunks can have any length. Otherwise the longest prompts, and those nearly as long, go
    into one ubatch, whole if possible. When llama.cpp takes only a few tokens of each of many
    sequences, flash attention reads the cache again for every one.
    """
    if room.min_prefill is not None:
        fresh = [sequence for sequence in prompts if not sequence.num_cached_tokens]
        if sum(sequence.num_pending_tokens for sequence in fresh) >= room.min_prefill:
            return _fill(fresh, room.n_batch)
    budget = min(room.n_batch, room.n_ubatch)
    longest = max(sequence.num_pending_tokens for sequence in prompts)
    least = _NEARLY * min(longest, budget)
    return _level(_fill((s for s in prompts if s.num_pending_tokens >= least), budget))


def _level(prompts: list[Chunk]) -> list[Chunk]:
    """Cut prompts of nearly the same length to equal lengths; the rest is left for later steps.

    With a region per sequence, llama.cpp splits a batch into ubatches with equally many tokens of
    every sequence. Uneven ends would become small ubatches, each as slow as a decode. As single
    tokens in a batch with decoding sequences, they cost next to nothing.
    """
    shortest = min((chunk.num_tokens for chunk in prompts if chunk.is_last), default=0)
    if not shortest:
        return prompts
    if len(prompts) > 1 and shortest % TILE < WASTED * shortest:
        shortest -= shortest % TILE
    return [
        Chunk(chunk.sequence, chunk.start, chunk.start + shortest)
        for chunk in prompts
        if chunk.num_tokens >= shortest  # the chunk that the budget cut shorter waits
    ]


def _fill(sequences: Iterable[Sequence], budget: int, each: int | None = None) -> list[Chunk]:
    """The sequences' pending tokens, at most `budget` in all and `each` of one sequence."""
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
