"""Moves a sequence from a pool into a context in regions, whose cache has another layout.

llama.cpp refuses a state whose number of streams differs from the context's, although one sequence
has cells in one stream only. A state (`llama_kv_cache::state_write`) is a header, and then for each
cache (the full one, and that of the attention window) the number of streams and, for each stream,
the number of cells and their contents. So the state from a pool, which has one stream, is rewritten
as a state of many streams; all but one are empty.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import llama_cpp

from l4cli.engine.llamacpp import library
from l4cli.engine.llamacpp.states import WINDOW_ONLY, read_state, state_size
from l4cli.errors import EngineError

_HEADER = 8  # bytes: a magic number and the sequence's id
_COUNT = struct.Struct("=I")


def move_to_region(source: Any, target: Any, seq_id: int, n_regions: int) -> None:
    """Copy a sequence of a pool to the same id in a context of `n_regions` regions.

    source, target: handles of contexts of the same weights, with the same types of KV cache. The
        weights' order may differ. The target must not hold the sequence yet.

    EngineError if llama.cpp has no room, or if the layout of its states has changed since this was
    written. The target then holds nothing of the sequence.
    """
    library.forget_log()
    state = memoryview(read_state(source, seq_id)).cast("B")
    window = _HEADER + len(state) - state_size(source, seq_id, WINDOW_ONLY)
    starts = [_HEADER] if window == _HEADER else [_HEADER, window]  # where each cache begins
    stops = [*starts[1:], len(state)]
    others = _COUNT.size * (n_regions - 1)  # bytes of the empty streams of one cache
    data = (ctypes.c_uint8 * (len(state) + others * len(starts)))()
    view = memoryview(data).cast("B")
    view[:_HEADER] = state[:_HEADER]
    at = _HEADER
    for start, stop in zip(starts, stops, strict=True):
        if _COUNT.unpack_from(state, start) != (1,):
            raise EngineError("llama.cpp's state of a sequence has an unknown layout")
        view[at : at + stop - start] = state[start:stop]
        _COUNT.pack_into(view, at, n_regions)
        at += stop - start + others
    if llama_cpp.llama_state_seq_set_data(target, data, len(data), seq_id) != len(data):
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(target), seq_id, -1, -1)
        raise EngineError(f"llama.cpp could not move a sequence: {library.last_complaint()}")
