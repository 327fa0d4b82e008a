"""Saves and loads parts of sequences for a context in regions, by way of a small pool.

In regions, llama.cpp loads a state only in place of a whole sequence, but a stored prefix consists
of parts (`states.py`). So parts are loaded in a pool that has room for one sequence, which then
moves into its region. Saving goes the other way round. The files are the same as a pool's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import llama_cpp

from l4cli.engine.llamacpp.moving import move_to_pool, move_to_region
from l4cli.engine.llamacpp.states import SequenceStates, full_key, settle, state_size
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.errors import EngineError, ModelLoadError


class Pool(Protocol):
    """A context whose sequences share their cells."""

    @property
    def handle(self) -> Any:
        """The llama_context."""
        ...

    def close(self) -> None: ...


class RegionStates:
    """The States of one context in regions.

    handle: its llama_context.
    n_regions: its number of regions.
    make_pool: makes a pool for two sequences, when it is first needed. One that cannot be made,
        because memory is short, is not asked for again.
    num_computed, advanced, key: as for SequenceStates.

    ValueError for positions that are not computed; EngineError if llama.cpp fails.
    """

    segment = SEGMENT_TOKENS

    def __init__(
        self,
        handle: Any,
        n_regions: int,
        make_pool: Callable[[], Pool],
        num_computed: Callable[[int], int],
        advanced: Callable[[int, int], None],
        key: str,
    ) -> None:
        self._handle, self._n_regions, self._make_pool = handle, n_regions, make_pool
        self._num_computed, self._advanced = num_computed, advanced
        self._pool: Pool | None = None
        self._no_pool: str | None = None  # why there is none
        self._num_staged = 0  # tokens of the pool's sequence 0; sequence 1 is the spare one
        self._staged: SequenceStates | None = None
        self.key = full_key(key)
        self._own_key = key

    def size(self, seq_id: int, start: int, stop: int) -> int:
        """About as many bytes as `save` would write."""
        share = (stop - start) / max(1, self._num_computed(seq_id))
        return int(state_size(self._handle, seq_id) * share)

    def save(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> int:
        """Write the positions from `start` on, which hold `tokens`; return the number of bytes."""
        with self._staging(seq_id) as (_, staged):
            return staged.save(0, start, tokens, path)

    def load(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> None:
        """Append `tokens` to a sequence of `start` tokens, from a file that begins with them."""
        if self._num_computed(seq_id) != start:
            raise ValueError(f"sequence {seq_id} does not end at {start}")
        with self._staging(seq_id) as (pool, staged):
            staged.load(0, start, tokens, path)
            move_to_region(pool.handle, self._handle, 0, self._n_regions, to=seq_id)
        self._advanced(seq_id, start + len(tokens))

    def settle(self, seq_id: int) -> None:
        """Arrange the attention window's cells as `load` would."""
        settle(self._handle, seq_id)

    def close(self) -> None:
        """Free the pool; idempotent."""
        if self._pool:
            self._pool.close()
        self._pool = self._staged = None

    @contextmanager
    def _staging(self, seq_id: int) -> Iterator[tuple[Pool, SequenceStates]]:
        """While it is open, the pool's sequence 0 is a copy of the given one."""
        pool, staged = self._opened()
        self._num_staged = self._num_computed(seq_id)
        try:
            if self._num_staged:
                move_to_pool(self._handle, pool.handle, seq_id, self._n_regions, to=0)
            yield pool, staged
        finally:
            self._num_staged = 0
            llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(pool.handle), 0, -1, -1)

    def _opened(self) -> tuple[Pool, SequenceStates]:
        if self._no_pool:
            raise EngineError(self._no_pool)
        if self._pool is None or self._staged is None:
            try:
                self._pool = self._make_pool()
            except ModelLoadError as error:
                self._no_pool = str(error)
                raise EngineError(self._no_pool) from None
            self._staged = SequenceStates(
                self._pool.handle, 1, lambda _: self._num_staged, self._grow, self._own_key
            )
        return self._pool, self._staged

    def _grow(self, _seq_id: int, num_staged: int) -> None:
        self._num_staged = num_staged
