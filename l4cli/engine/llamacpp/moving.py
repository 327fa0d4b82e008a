"""Moves sequences between a pool and a context in regions, whose caches have different layouts.

llama.cpp refuses a state whose number of streams differs from the context's, although one sequence
has cells in one stream only. A state (`llama_kv_cache::state_write`) is a header, and then for each
cache (the full one, and that of the attention window) the number of streams and, for each stream,
the number of cells and their contents. So a state from a pool, which has one stream, is rewritten
as a state of many streams of which all but one are empty, and the other way round.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any, NamedTuple

import llama_cpp

from l4cli.engine.llamacpp import library
from l4cli.engine.llamacpp.states import WINDOW_ONLY, read_state, state_size
from l4cli.errors import EngineError

_HEADER = 8  # bytes: a magic number and the sequence's id
_COUNT = struct.Struct("=I")


def move_to_region(source: Any, target: Any, seq_id: int, n_regions: int, *, to: int) -> None:
    """Copy a sequence of a pool to a context of `n_regions` regions.

    source, target: handles of contexts of the same weights, with the same types of KV cache. The
        weights' order may differ. What the target holds of the sequence is replaced.
    seq_id, to: the sequence's id in the source and in the target.

    EngineError if llama.cpp has no room, or if the layout of its states has changed since this was
    written. The target then holds nothing of the sequence.
    """
    state = _State.read(source, seq_id, n_streams=1, stream=0)
    state.write(target, to, n_streams=n_regions)


def move_to_pool(source: Any, target: Any, seq_id: int, n_regions: int, *, to: int) -> None:
    """Copy a sequence of a context in regions to a pool; otherwise like `move_to_region`."""
    state = _State.read(source, seq_id, n_streams=n_regions, stream=seq_id)
    state.write(target, to, n_streams=1)


class _State(NamedTuple):
    """A sequence's state: its header, and the cells that each cache has, without other streams."""

    header: memoryview
    caches: list[memoryview]

    @classmethod
    def read(cls, source: Any, seq_id: int, *, n_streams: int, stream: int) -> _State:
        """Read the state of a sequence that has its cells in one of the source's streams."""
        library.forget_log()
        state = memoryview(read_state(source, seq_id)).cast("B")
        window = _HEADER + len(state) - state_size(source, seq_id, WINDOW_ONLY)
        starts = [_HEADER] if window == _HEADER else [_HEADER, window]  # where each cache begins
        stops = [*starts[1:], len(state)]
        # The other streams are empty: each has a count of 0, before or after our cells.
        before, after = _COUNT.size * stream, _COUNT.size * (n_streams - 1 - stream)
        caches = []
        for start, stop in zip(starts, stops, strict=True):
            first, last = start + _COUNT.size + before, stop - after
            empty = bytes(state[first - before : first]) + bytes(state[last:stop])
            if _COUNT.unpack_from(state, start) != (n_streams,) or any(empty):
                raise EngineError("llama.cpp's state of a sequence has an unknown layout")
            caches.append(state[first:last])
        return cls(state[:_HEADER], caches)

    def write(self, target: Any, seq_id: int, *, n_streams: int) -> None:
        """Replace a sequence of a context with so many streams by this state."""
        parts: list[bytes | memoryview] = [self.header]
        for cells in self.caches:  # llama.cpp does not mind which of the streams has them
            parts += [_COUNT.pack(n_streams), cells, bytes(_COUNT.size * (n_streams - 1))]
        data = bytearray().join(parts)
        buffer = (ctypes.c_uint8 * len(data)).from_buffer(data)
        if llama_cpp.llama_state_seq_set_data(target, buffer, len(data), seq_id) != len(data):
            llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(target), seq_id, -1, -1)
            raise EngineError(f"llama.cpp could not move a sequence: {library.last_complaint()}")
