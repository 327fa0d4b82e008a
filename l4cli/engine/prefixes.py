"""Prefixes that no request asked for: texts read ahead, or restored from disk.

A prefix becomes a retained sequence, from which requests that begin with it are forked.
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
    """What the KV cache holds of given tokens, and ways to make it hold more."""

    def __init__(self, backend: Backend, scheduler: Scheduler) -> None:
        self._backend = backend
        self._scheduler = scheduler
        self.piece = min(PIECE, backend.n_batch)  # tokens, the same in contexts of any n_batch
        self._reading: list[Sequence] = []  # by `prefill`, one at most

    def holder(self, tokens: Seq[int], *, exact: bool = False) -> tuple[Sequence | None, int]:
        """The sequence that holds most of `tokens`, and how many.

        With `exact` only what `prefill` has computed counts.
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
        """Compute `tokens`, always in the same pieces; yields how many there are, piece by piece.

        It goes on from what is held. Afterwards the prefix is retained, as far as it came: after
        an `interrupt`, or when the loop is left, up to the last whole piece. With `pin` it stays
        until nothing else could run otherwise. ContextOverflowError if the context is too small,
        RequestError while requests are in flight.
        """
        if self._scheduler.running or self._scheduler.waiting:
            raise RequestError("a prefix is read only while no request is in flight")
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
        """Let what holds most of `tokens` stay until nothing else could run otherwise.

        What comes back undoes it.
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
        """A new sequence to restore `tokens` into, None if there is no room for it.

        Whoever loads says so in `num_computed_tokens`; at the end so many are retained.
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
                f"the text has {len(wanted)} tokens, the context holds "
                f"{self._backend.n_ctx_seq}: raise --ctx above {len(wanted)}"
            )
        return sequence

    def _cut(self, donor: Sequence, shared: int, length: int) -> int:
        """From where pieces go on: all of it, or the last cut that the cache can go back to."""
        if not shared == length == donor.num_prefilled_tokens:
            shared = last_cut(shared, self.piece)
        exact = self._backend.exact_prefix(donor.seq_id, shared)
        return exact if exact == shared else last_cut(exact, self.piece)

    def _compute(self, sequence: Sequence, start: int, stop: int) -> bool:
        """One piece; False if it was interrupted, and is then undone."""
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
