"""A model's way through the chunks of a text: rows of logits, a few at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from l4cli.engine.types import BatchItem
from l4cli.eval.chunks import Chunks, Piece, Step

Rows = npt.NDArray[np.float32]

# Bytes of all rows of logits that are in memory at once. llama.cpp computes each row in its graph
# and copies it to its output; the copy is dropped as soon as it is read.
ROWS_BYTES = 96 << 20
_WORTH_DROPPING = 8 << 20  # bytes of rows; it takes the kernel a millisecond to make 4 MiB anew
_MOST_ROWS = 256  # half of the 512 tokens that llama.cpp computes at once by default
# Tokens of a sequence that flash attention takes together on a CPU. It rounds differently where
# there are fewer, so even a large vocabulary gets as many rows; llama-perplexity has as many, too.
LEAST_ROWS = 64


class RowsBackend(Protocol):
    """What a pass needs of `LlamaBackend`: a context of two regions that keeps many rows."""

    def decode(self, items: list[BatchItem]) -> None: ...

    def kept(self) -> Rows: ...

    def drop_kept(self) -> None: ...

    def truncate(self, seq_id: int, length: int) -> None: ...

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def rows_at_once(n_vocab: int, n_ctx: int, num_models: int) -> int:
    """Return how many rows of logits one decode may keep, so that memory stays bounded.

    num_models: models that go through the text together.
    """
    rows = ROWS_BYTES // (4 * n_vocab * 2 * num_models)
    rows = max(LEAST_ROWS, min(_MOST_ROWS, rows) // LEAST_ROWS * LEAST_ROWS)
    return min(rows, n_ctx - n_ctx // 2)


class Pass:
    """Takes one model through the chunks, step by step.

    clock: returns seconds. `seconds` and `num_tokens` count what the steps so far took.
    """

    def __init__(
        self,
        backend: RowsBackend,
        chunks: Chunks,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend, self._chunks, self._clock = backend, chunks, clock
        self.seconds, self.num_tokens = 0.0, 0
        self._num_bytes = 0

    def rows(self, step: Step) -> Rows | None:
        """Compute a step; return the logits of its scored tokens, None if it has none.

        The rows are valid until the next step. Raises DecodeAbortedError after an interrupt.
        """
        started = self._clock()
        items = []
        for piece, is_scored in ((step.scored, True), (step.filling, False)):
            if piece:
                items.append(self._item(piece, is_scored))
        self._backend.decode(sorted(items))
        rows = self._backend.kept() if step.scored else None
        self._num_bytes = 0 if rows is None else rows.nbytes
        self.seconds += self._clock() - started
        self.num_tokens += step.num_tokens
        if rows is not None and step.scored and step.scored.stop == self._chunks.n_ctx:
            rows = rows[:-1]  # nothing follows a chunk's last token
        return rows

    def drop(self) -> None:
        """Give back the memory of the rows that were returned last; they are not valid then."""
        if self._num_bytes > _WORTH_DROPPING:
            self._backend.drop_kept()

    def interrupt(self) -> None:
        """Make the running step end soon. Safe from signal handlers and other threads."""
        self._backend.interrupt()

    def close(self) -> None:
        """Free the context; idempotent."""
        self._backend.close()

    def _item(self, piece: Piece, is_scored: bool) -> BatchItem:
        region = piece.chunk % 2
        if piece.start == 0:
            self._backend.truncate(region, 0)
        ids = self._chunks.ids(piece.chunk, piece.start, piece.stop)
        return BatchItem(region, piece.start, ids, is_scored, wants_all=is_scored)
