"""The pieces in which a long prompt is always prefilled. Pure.

The same tokens give the same bits only if they are computed in the same batches. So a text that is
computed once and used often is always cut at the same positions, in every process and wherever the
computation starts: at multiples of a segment, one token after them, and from there every `size`
tokens. At a multiple, a sequence can continue without any chunked keys. One token later its state
is smallest.
"""

from __future__ import annotations

from collections.abc import Iterator

SEGMENT_TOKENS = 8192  # tokens: Llama 4's attention chunk
PIECE = 512  # tokens at most; llama.cpp splits larger batches into ubatches of this size


def pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """The pieces from the cut `start` to any `stop`, as pairs of positions."""
    while start < stop:
        until = min(stop, _next_cut(start, size))
        yield start, until
        start = until


def last_cut(position: int, size: int) -> int:
    """The last cut at or before a position."""
    segment, offset = position - position % SEGMENT_TOKENS, position % SEGMENT_TOKENS
    return segment + (1 + (offset - 1) // size * size if offset else 0)


def _next_cut(position: int, size: int) -> int:
    segment, offset = position - position % SEGMENT_TOKENS, position % SEGMENT_TOKENS
    if not offset:
        return position + 1
    return min(segment + SEGMENT_TOKENS, segment + 1 + ((offset - 1) // size + 1) * size)
