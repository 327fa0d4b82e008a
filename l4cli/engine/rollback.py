"""Finds the earlier positions from which a sequence can continue exactly. Pure.

llama.cpp reuses cells that its attention window has left behind. `llama_memory_seq_rm` returns true
even if a rollback would need those cells (src/llama-kv-cache-iswa.cpp): attention is then silently
wrong. So this module tracks decoded, truncated and forked tokens, and applies its own rule:

- full attention: any position.
- chunked (Llama 4, chunks of 8192): any position in the current chunk, and any chunk boundary,
  because at a boundary no chunked keys are needed at all.
- sliding window: any position whose window is still in the cache.
- recurrent: only the current position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

AttentionKind = Literal["full", "chunked", "sliding", "recurrent"]


@dataclass(slots=True)
class RollbackRule:
    """Tracks, for each sequence, the lowest position whose windowed cells surely still exist."""

    kind: AttentionKind
    window: int = 0
    _kept_from: dict[int, int] = field(default_factory=dict)

    def exact_prefix(self, seq_id: int, num_computed: int, length: int) -> int:
        """The longest prefix of at most `length` tokens from which decoding is exact."""
        if length >= num_computed:
            return num_computed
        kept_from = self._kept_from.get(seq_id, 0)
        if self.kind == "full":
            return length
        if self.kind == "chunked":
            boundary = length // self.window * self.window
            return length if boundary >= kept_from else boundary
        if self.kind == "sliding":
            return length if max(0, length - self.window) >= kept_from else 0
        return 0

    def advanced(self, seq_id: int, num_computed: int) -> None:
        """Record that a decode brought the sequence to `num_computed` tokens."""
        if self.kind == "chunked":
            lowest = num_computed // self.window * self.window
        elif self.kind == "sliding":
            lowest = max(0, num_computed - self.window)
        else:
            return
        self._kept_from[seq_id] = max(self._kept_from.get(seq_id, 0), lowest)

    def truncated(self, seq_id: int, length: int) -> None:
        """Record that the sequence was cut to `length`; 0 forgets it."""
        if length == 0:
            self._kept_from.pop(seq_id, None)
        elif length < self._kept_from.get(seq_id, 0):
            self._kept_from[seq_id] = length  # a chunk boundary: nothing below is needed or kept

    def forked(self, src: int, dst: int, length: int) -> None:
        """Record that `dst` now shares the first `length` tokens of `src`."""
        self._kept_from[dst] = min(self._kept_from.get(src, 0), length)
