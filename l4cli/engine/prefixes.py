"""Prefixes that no request asked for: texts prefilled in advance, or restored from disk.

A prefix becomes a retained sequence. Requests that begin with it are forked from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Seq
from contextlib import contextmanager

from l4cli.engine.pieces import PIECE, SEGMENT_TOKENS, last_cut, pieces
from l4cli.engine.scheduler import Scheduler
from l4cli.engine.sequence import Sequence, common_prefix
from l4cli.engine.types import Backend, BatchItem, DecodeAbortedError
from l4cli.errors import ContextOverflowError, EngineError, RequestError


class Prefixes:
    """Finds prefixes in the KV cache, prefills and restores more of them, and pins them."""

    def __init__(self, backend: Backend, scheduler: Scheduler) -> None:
        self._backend = backend
        self._scheduler = scheduler
        self.piece = min(PIECE, backend.n_batch)  # tokens; the same for any n_batch of 512 or more
        self._reading: list[Sequence] = []  # the sequence that `prefill` computes now, if any

    def holder(self, tokens: Seq[int], *, exact: bool = False) -> tuple[Sequence | None, int]:
        """The sequence that holds the longest prefix of `tokens`, and the length of that prefix.

        With `exact`, only tokens count that `prefill` has computed.
        """
        best: Sequence | None = None
        most, wanted = 0, list(tokens)
        for sequence in (*self._reading, *self._scheduler.prefixes):
            held = sequence.num_prefilled_tokens if exact else sequence.num_computed_tokens
            shared = min(held, common_prefix(sequence.tokens, wanted))
            if shared > most:
                best, most = sequence, shared
        return best, most

    def prefill(self, tokens: Seq[int], *, pin: bool = False) -> Iterator[int]:
        """Compute `tokens` in fixed pieces; yield the number of computed tokens after each piece.

        The first number yielded counts the tokens that were computed earlier. At the end the prefix
        is retained; after an `interrupt`, or if the loop is left, only to the last whole piece.

        pin: evict the prefix only when no request could run otherwise.

        Raises ContextOverflowError if the context is too small, and RequestError while requests are
        in flight.
        """
        if self._scheduler.running or self._scheduler.waiting:
            raise RequestError("a prefix can be prefilled only while no request is in flight")
        wanted = list(tokens)
        sequence = self._open(wanted)
        sequence.pinned = pin
        start = sequence.num_computed_tokens
        self._reading = [sequence]
        try:
            yield start
            for piece in pieces(start, len(wanted), self.piece):
                if not self._compute(sequence, *piece):
                    return
                yield sequence.num_computed_tokens
        finally:
            self._reading = []
            self._scheduler.keep_prefix(sequence)

    def pin(self, tokens: Seq[int]) -> Callable[[], None]:
        """Pin the sequence that holds most of `tokens`; return a function that unpins it.

        A pinned sequence is evicted only when no request could run otherwise.
        """
        holder, _ = self.holder(tokens)
        if holder:
            holder.pinned = True

        def unpin() -> None:
            if holder:
                holder.pinned = False

        return unpin

    @contextmanager
    def restoring(self, tokens: Seq[int]) -> Iterator[Sequence | None]:
        """Open a new sequence to restore `tokens` into; None if there is no room for it.

        The caller sets `num_computed_tokens` after each load. At the end that many are retained.
        """
        sequence = self._scheduler.open_prefix(list(tokens))
        try:
            yield sequence
        finally:
            if sequence:
                self._scheduler.keep_prefix(sequence)

    def _open(self, wanted: list[int]) -> Sequence:
        donor, shared = self.holder(wanted, exact=True)
        length = self._cut(donor, shared, len(wanted)) if donor else 0
        if donor and length:
            sequence = self._scheduler.reopen_prefix(donor, length, wanted)
        else:
            self._scheduler.forget()
            sequence = self._scheduler.open_prefix(wanted)
        if sequence is None:
            raise ContextOverflowError(
                f"the text has {len(wanted):,} tokens, the context holds "
                f"{self._backend.n_ctx_seq:,}: raise --ctx above {len(wanted)}"
            )
        return sequence

    def _cut(self, donor: Sequence, shared: int, length: int) -> int:
        """Where computing continues: after all shared tokens, or at the last exact cut."""
        if not shared == length == donor.num_prefilled_tokens:
            shared = last_cut(shared, self.piece)
        exact = self._backend.exact_prefix(donor.seq_id, shared)
        return exact if exact == shared else last_cut(exact, self.piece)

    def _compute(self, sequence: Sequence, start: int, stop: int) -> bool:
        """Compute one piece. If it is interrupted, undo it and return False."""
        item = BatchItem(sequence.seq_id, start, sequence.tokens[start:stop], wants_logits=False)
        try:
            self._backend.decode([item])
        except (DecodeAbortedError, EngineError) as error:
            self._backend.truncate(sequence.seq_id, start)
            if isinstance(error, EngineError):
                raise
            return False
        if stop > 1 and stop % SEGMENT_TOKENS == 1 and self._backend.states:
            self._backend.states.settle(sequence.seq_id)
        sequence.num_computed_tokens = sequence.num_prefilled_tokens = stop
        return True
