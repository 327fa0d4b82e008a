"""How large a context to make for the requests at hand, and how to divide it. Pure.

Best is a region of its own for each sequence, as long as the longest request: attention then looks
at nothing else. But a prefix that many share is stored as many times. Where memory for that falls
short, one pool for all holds it once, and more sequences run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from l4cli.engine.kv import CELL_PADDING, padded
from l4cli.engine.sequence import common_prefix
from l4cli.engine.types import Request

KV_PART = 4  # of the machine's memory, the most that an automatic context takes: a quarter
POOL_PART = 4  # of its cells, the most that prompts take besides, in a context of their own
_ENOUGH = 16  # sequences; beyond, attention over a shared pool costs more than they bring
_MOST_IN_POOL = 255  # sequences: llama.cpp's limit, less the one that states go through


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens of the longest request, and what a request adds on average to the one before it.

    Answers are included. `num_requests` None says that more will come. With `pool` prefixes are to
    be restored or kept, which takes a pool.
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
    """What sizes are possible: sequences, tokens in one, and KV cells in all."""

    n_seq_max: int
    n_ctx_seq: int
    n_cells: int

    @property
    def longest(self) -> int:
        """The longest request there can be room for."""
        return min(self.n_ctx_seq, self.n_cells)


def demand_of(requests: Sequence[Request], *, more: bool, pool: bool = False) -> Demand:
    """What these requests demand; with `more` they are only the first.

    In a pool that is asked for one sequence more is for the prefix that they share, and what the
    request with that prefix adds is there once, with the longest.
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
    """The context for a demand. What is longer than the limits is left for the engine to refuse."""
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
    """KV cells for prompts beside a context for answers: for one under way and those that begin,
    where that is no more than a part of `n_ctx`, but always for two batches."""
    return min(n_ctx_seq + n_batch, max(2 * n_batch, n_ctx // POOL_PART))
