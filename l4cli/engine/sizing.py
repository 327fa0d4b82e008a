"""Chooses the size of the context for given requests, and between pool and regions. Pure.

A private KV region per sequence, as long as the longest request, is fastest: attention then skips
the other sequences' cells. But a prefix that many requests share is then stored once per sequence.
If memory is too small for that, one pool holds the prefix once, and more sequences run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from l4cli.engine.kv import CELL_PADDING, padded
from l4cli.engine.sequence import common_prefix
from l4cli.engine.types import Request

KV_PART = 4  # an automatic context takes at most one part in four of the machine's memory
POOL_PART = 4  # a second context, for prompts only, takes at most one part in four of its cells
_ENOUGH = 16  # sequences; with more, attention over a shared pool costs more than they gain
_MOST_IN_POOL = 255  # sequences: llama.cpp's limit, less the spare one that saves states


@dataclass(frozen=True, slots=True)
class Demand:
    """The KV cells that requests need, for prompts and answers.

    longest: tokens of the longest request.
    own: mean number of tokens by which a request extends the prefix shared with the one before.
    num_requests: None means that more will come.
    pool: whether prefixes are to be restored or saved, which takes a pool.
    """

    longest: int
    own: int
    num_requests: int | None
    pool: bool = False


@dataclass(frozen=True, slots=True)
class ContextSize:
    """`n_ctx` KV cells for `n_seq_max` sequences, in one pool or in equal regions."""

    n_ctx: int
    n_seq_max: int
    unified: bool = False


@dataclass(frozen=True, slots=True)
class SizingLimits:
    """The largest possible sizes: sequences, tokens in one sequence, and KV cells in all."""

    n_seq_max: int
    n_ctx_seq: int
    n_cells: int

    @property
    def longest(self) -> int:
        """Tokens of the longest request that can fit."""
        return min(self.n_ctx_seq, self.n_cells)


def demand_of(requests: Sequence[Request], *, more: bool, pool: bool = False) -> Demand:
    """The demand of these requests; `more` says that others will follow.

    With `pool`, one more sequence holds the shared prefix. The largest extension then does not
    count in `own`, because `longest` includes it already.
    """
    lengths = [len(request.prompt) + (request.params.max_tokens or 0) for request in requests]
    prompts = [list(request.prompt) for request in requests]
    shared = [0, *(common_prefix(a, b) for a, b in pairwise(prompts))][: len(prompts)]
    own = [length - prefix for length, prefix in zip(lengths, shared, strict=True)]
    if pool and len(own) > 1:
        own.remove(max(own))
    return Demand(
        longest=max(lengths, default=CELL_PADDING),
        own=-(-sum(own) // max(1, len(own))),
        num_requests=None if more else len(requests) + pool,
        pool=pool,
    )


def choose_size(demand: Demand, limits: SizingLimits) -> ContextSize:
    """The context for a demand. The engine later refuses requests longer than the limits."""
    longest = min(padded(demand.longest), limits.longest)
    wanted = limits.n_seq_max
    if demand.num_requests is not None:
        wanted = max(1, min(wanted, demand.num_requests))
    in_regions = max(1, min(wanted, limits.n_cells // longest))
    room = 1 + (limits.n_cells - longest) // max(1, demand.own)
    in_pool = max(1, min(wanted, room, _MOST_IN_POOL))
    if demand.pool or (in_regions < min(_ENOUGH, wanted) and in_pool >= 2 * in_regions):
        n_ctx = min(limits.n_cells, padded(longest + (in_pool - 1) * demand.own))
        return ContextSize(n_ctx, in_pool, unified=True)
    return ContextSize(in_regions * longest, in_regions)


def pool_cells(n_ctx: int, n_ctx_seq: int, n_batch: int) -> int:
    """KV cells of a separate context for prompts, if another one computes the answers.

    They are enough for one prompt in progress and a batch of new ones, but no more than two
    batches or a quarter of `n_ctx`, whichever is larger.
    """
    return min(n_ctx_seq + n_batch, max(2 * n_batch, n_ctx // POOL_PART))
