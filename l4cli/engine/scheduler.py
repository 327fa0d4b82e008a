"""Chooses which requests run, which prefixes they share, and which prefixes are retained.

There is no prefill phase and no decode phase: every running sequence advances from
`num_computed_tokens` to its length (`batching.py` chooses its next tokens). The idea is that of
vLLM's v1 scheduler, with llama.cpp's forks instead of paged blocks:

- A request is admitted when a sequence id is free and cells for its whole length can be reserved.
  So a new request can never starve a running one.
- A prefix that another sequence, running or finished, has computed is forked, not computed again.
  A request whose prefix is being computed right now waits for it.
- Requests in the background are admitted only when no other request waits.
- Finished sequences are retained as prefixes for later requests; the least recently used one is
  evicted first. Pinned ones are evicted only when nothing runs and the next request could not be
  admitted otherwise.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Protocol

from l4cli.engine.batching import TILE, WASTED, Chunk, Room, is_prompt, next_batch
from l4cli.engine.cells import CellLedger
from l4cli.engine.sequence import Sequence, common_prefix
from l4cli.engine.types import Request
from l4cli.errors import ContextOverflowError, RequestError

# Shorter prefixes are computed again: waiting for them costs more than it saves.
MIN_SHARED_TOKENS = 16

_LONG = 512  # tokens; over longer prefixes, attention takes a good part of the time


class KvCache(Room, Protocol):
    """The parts of a Backend that admission needs."""

    n_ctx: int
    n_ctx_seq: int
    n_seq_max: int

    def exact_prefix(self, seq_id: int, length: int) -> int: ...

    def fork(self, src: int, dst: int, length: int) -> None: ...

    def truncate(self, seq_id: int, length: int) -> None: ...


class Scheduler:
    """The waiting, running and retained sequences of one KV cache.

    max_retained: most unpinned sequences to retain.
    prefix_step: prefixes are reused in whole multiples of so many tokens.
    takes_turns: in regions, running answers get a token between two batches of prompts. Without
        it, all prompts come first, which is faster as a whole.

    At most `max_running` sequences run at once. It may change at any time; sequences beyond it,
    the last admitted ones, pause.
    """

    def __init__(
        self,
        kv: KvCache,
        max_retained: int = 1,
        prefix_step: int = 1,
        *,
        takes_turns: bool = False,
    ) -> None:
        self.kv = kv
        self.takes_turns, self._had_prompts = takes_turns, False
        self.max_running = kv.n_seq_max
        self.prefix_step = prefix_step
        self.max_retained = max_retained  # more save prefills, but attention scans their cells
        self.ledger = CellLedger(kv.n_ctx)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._retained: dict[int, Sequence] = {}  # least recently used first
        # Lowest id first: llama.cpp decodes sequences together only if their ids are consecutive.
        self._free_ids = list(range(kv.n_seq_max))

    def add(self, request: Request) -> Sequence:
        """Queue a request; ContextOverflowError if it can never fit, RequestError if empty."""
        if not request.prompt:
            raise RequestError("the prompt is empty")
        num_prompt, n_ctx = len(request.prompt), self.kv.n_ctx_seq
        if num_prompt >= n_ctx:
            raise ContextOverflowError(
                f"the prompt has {num_prompt:,} tokens, the context holds {n_ctx:,}: "
                f"shorten it or raise --ctx above {num_prompt}"
            )
        max_tokens = request.params.max_tokens
        num_reserved = n_ctx if max_tokens is None else num_prompt + max_tokens
        if num_reserved > n_ctx:
            raise ContextOverflowError(
                f"the prompt's {num_prompt:,} tokens and max_tokens {max_tokens:,} make "
                f"{num_reserved:,}, the context holds {n_ctx:,}: lower max_tokens or raise --ctx"
            )
        sequence = Sequence(request, num_reserved)
        self.waiting.append(sequence)
        return sequence

    def schedule(self) -> list[Chunk]:
        """Admit the requests that fit, and return the chunks to compute next."""
        self._admit()
        is_answers_turn = self.takes_turns and self._had_prompts
        chunks = next_batch(
            self.running[: self.max_running], self.kv, answers_first=is_answers_turn
        )
        self._had_prompts = any(is_prompt(chunk.sequence) for chunk in chunks)
        return chunks

    def retire(self, sequence: Sequence) -> None:
        """Remove a sequence; its computed tokens stay as a prefix for others."""
        if sequence.seq_id < 0:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        self._trim(sequence)
        self._retain(sequence)

    def open_prefix(self, tokens: list[int]) -> Sequence | None:
        """Open a sequence for tokens that no request asked for; the caller computes them.

        None if there is no room. Return the sequence with `keep_prefix`.
        """
        if not self._make_room(len(tokens), keep=None):
            return None
        sequence = Sequence(Request("", tuple(tokens)), len(tokens))
        sequence.seq_id = heapq.heappop(self._free_ids)
        self.ledger.extend(sequence.seq_id, len(tokens))
        return sequence

    def reopen_prefix(self, donor: Sequence, length: int, tokens: list[int]) -> Sequence | None:
        """Like `open_prefix`, but continue from the first `length` tokens of a retained sequence.

        The new sequence takes over the donor's id and cells, and all other prefixes are evicted.
        Its cells then lie as if it had been computed alone. None if there is no room.
        """
        for seq_id in list(self._retained):
            if seq_id != donor.seq_id:
                self._evict(seq_id)
        self._roll_back(donor, length)
        if self.ledger.free < len(tokens) - length:
            return None
        del self._retained[donor.seq_id]
        sequence = Sequence(Request("", tuple(tokens)), len(tokens), seq_id=donor.seq_id)
        sequence.num_computed_tokens = length
        sequence.num_prefilled_tokens = min(length, donor.num_prefilled_tokens)
        self.ledger.extend(sequence.seq_id, len(tokens) - length)
        return sequence

    def keep_prefix(self, sequence: Sequence) -> None:
        """Retain the computed tokens of an opened prefix."""
        self._trim(sequence)
        if sequence.num_computed_tokens:
            self._retain(sequence)
        else:
            heapq.heappush(self._free_ids, sequence.seq_id)

    @property
    def prefixes(self) -> list[Sequence]:
        """Sequences with computed tokens, retained and running."""
        return [*self._retained.values(), *self.running]

    def forget(self) -> None:
        """Drop every retained prefix."""
        for seq_id in list(self._retained):
            self._evict(seq_id)

    def _admit(self) -> None:
        for sequence in self._admission_order():
            if len(self.running) >= self.max_running:
                return
            if not self._free_ids and not self._retained:
                return
            donor, shared = self._best_donor(sequence)
            if donor and shared > donor.num_computed_tokens:
                continue  # the donor is computing the prefix right now
            if not self._place(sequence, donor, shared):
                return  # first come, first served: no request overtakes one that lacks room
            self.waiting.remove(sequence)
            self.running.append(sequence)

    def _admission_order(self) -> list[Sequence]:
        """The waiting sequences in the order of admission: first come, first served.

        Those in the background come after all others. In regions, those that can begin now are
        ordered by length, longest first. They get ids in that order, so that prompts of nearly the
        same length have consecutive ids.
        """
        waiting = sorted(self.waiting, key=lambda sequence: sequence.request.background)
        if self.kv.unified:
            return waiting
        num_ids = len(self._free_ids) + len(self._retained)
        room = max(0, min(num_ids, self.max_running - len(self.running)))
        return sorted(waiting[:room], key=lambda s: len(s.tokens), reverse=True) + waiting[room:]

    def _best_donor(self, sequence: Sequence) -> tuple[Sequence | None, int]:
        """The sequence that shares the longest useful prefix, and the length of that prefix."""
        best: Sequence | None = None
        most = MIN_SHARED_TOKENS - 1
        limit = len(sequence.tokens) - 1  # the last token must be computed, for its logits
        if sequence.request.max_cached is not None:
            limit = min(limit, sequence.request.max_cached)
        for donor in self.prefixes:
            if donor.tokens[most : most + 1] != sequence.tokens[most : most + 1]:
                continue  # this donor shares no more than the best one
            shared = min(common_prefix(donor.tokens, sequence.tokens), limit)
            if self.prefix_step > 1:  # answers were not computed in steps of that size
                shared = min(shared, donor.num_prompt_tokens)
            if shared > most:
                best, most = donor, shared
        return best, most if best else 0

    def _place(self, sequence: Sequence, donor: Sequence | None, shared: int) -> bool:
        """Give a sequence an id, its shared prefix and its cells; False if there is no room."""
        exact = self._exact_prefix(donor, self._to_share(sequence, shared)) if donor else 0
        needed = sequence.num_reserved - exact
        if self._make_room(needed, keep=donor):
            sequence.seq_id = heapq.heappop(self._free_ids)
            if donor and exact:
                self.kv.fork(donor.seq_id, sequence.seq_id, exact)
                self.ledger.fork(donor.seq_id, sequence.seq_id, exact)
        elif donor and donor.seq_id in self._retained and not (donor.pinned and self.running):
            self._roll_back(donor, exact)
            if self.ledger.free < needed:
                return False
            del self._retained[donor.seq_id]
            sequence.seq_id = donor.seq_id
        else:
            return False
        self.ledger.extend(sequence.seq_id, needed)
        sequence.num_computed_tokens = sequence.num_cached_tokens = exact
        sequence.num_prefilled_tokens = min(exact, donor.num_prefilled_tokens) if donor else 0
        return True

    def _to_share(self, sequence: Sequence, shared: int) -> int:
        """The length of a prefix to reuse: a little less if the rest then fills a whole tile."""
        rest = len(sequence.tokens) - shared
        more = TILE - rest
        is_worth = not self.kv.unified and 0 < more < WASTED * rest and shared >= _LONG
        return shared - more if is_worth else shared

    def _exact_prefix(self, donor: Sequence, shared: int) -> int:
        exact = self.kv.exact_prefix(donor.seq_id, shared)
        return self.kv.exact_prefix(donor.seq_id, exact // self.prefix_step * self.prefix_step)

    def _make_room(self, needed: int, keep: Sequence | None) -> bool:
        """Evict retained prefixes until an id and `needed` cells are free.

        Unpinned ones are evicted first, and the least recently used before the others. Pinned ones
        are evicted only if nothing runs.
        """
        for sequence in sorted(self._retained.values(), key=lambda sequence: sequence.pinned):
            if self._free_ids and self.ledger.free >= needed:
                break
            if sequence is not keep and not (sequence.pinned and self.running):
                self._evict(sequence.seq_id)
        return bool(self._free_ids) and self.ledger.free >= needed

    def _roll_back(self, donor: Sequence, length: int) -> None:
        """Cut a retained sequence to the prefix that another sequence continues."""
        self.kv.truncate(donor.seq_id, length)
        self.ledger.truncate(donor.seq_id, length)
        donor.num_computed_tokens = length
        donor.num_prefilled_tokens = min(donor.num_prefilled_tokens, length)
        del donor.tokens[length:]

    def _trim(self, sequence: Sequence) -> None:
        """Release the cells that were reserved for tokens that were not computed."""
        self.ledger.truncate(sequence.seq_id, sequence.num_computed_tokens)
        del sequence.tokens[sequence.num_computed_tokens :]

    def _retain(self, sequence: Sequence) -> None:
        self._retained[sequence.seq_id] = sequence
        unpinned = [seq_id for seq_id, kept in self._retained.items() if not kept.pinned]
        for seq_id in unpinned[: max(0, len(unpinned) - self.max_retained)]:
            self._evict(seq_id)

    def _evict(self, seq_id: int) -> None:
        del self._retained[seq_id]
        self.kv.truncate(seq_id, 0)
        self.ledger.truncate(seq_id, 0)
        heapq.heappush(self._free_ids, seq_id)
