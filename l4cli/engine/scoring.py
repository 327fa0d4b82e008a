"""Computes how likely the model finds each token of a given text, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Seq

from l4cli.engine.scheduler import Scheduler
from l4cli.engine.types import Backend, BatchItem, DecodeAbortedError, TokenLogprob
from l4cli.errors import ContextOverflowError


class NoRoomError(Exception):
    """Other sequences hold the cells that a text needs; there may be room when they have ended."""


def score(
    backend: Backend, scheduler: Scheduler, tokens: Seq[int], num_top: int
) -> Iterator[list[TokenLogprob]]:
    """Yield the logprobs of the tokens after the first, some at a time, in their order.

    Other requests may run between two pieces. The computed tokens are retained as a prefix.

    num_top: how many of the likeliest tokens to report at each position.

    Raises ContextOverflowError if the text can never fit, and NoRoomError if it does not fit now.
    """
    wanted = list(tokens)
    if len(wanted) > backend.n_ctx_seq:
        raise ContextOverflowError(
            f"the prompt has {len(wanted)} tokens, the context holds {backend.n_ctx_seq}: "
            f"shorten it or raise --ctx above {len(wanted)}"
        )
    sequence = scheduler.open_prefix(wanted)
    if sequence is None:
        raise NoRoomError
    at, most = 0, min(backend.n_batch, backend.n_seq_max)  # as many rows of logits are kept
    try:
        while at < len(wanted) - 1:
            piece = wanted[at : min(at + most, len(wanted) - 1)]
            try:
                backend.decode([BatchItem(sequence.seq_id, at, piece, True, wants_all=True)])
            except DecodeAbortedError:
                backend.truncate(sequence.seq_id, at)
                continue
            nexts = wanted[at + 1 : at + 1 + len(piece)]
            at += len(piece)
            sequence.num_computed_tokens = at
            yield [backend.logprob(row, token, num_top) for row, token in enumerate(nexts)]
    finally:
        scheduler.keep_prefix(sequence)
