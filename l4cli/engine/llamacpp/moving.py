"""Sequences from one context into another whose cache is laid out differently.

llama.cpp refuses a state whose number of streams is not its own, although that of one sequence has
cells in one stream only. What it writes (`llama_kv_cache::state_write`) is a header, then of each
cache, the one that sees everything and the one of the attention window, the number of streams and,
a stream each, a number of cells with what they hold. So a pool, which is one stream, is rewritten
as one of many, of which all but one are empty.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import llama_cpp

from l4cli.engine.llamacpp import library
from l4cli.engine.llamacpp.states import WINDOW_ONLY, read_state, state_size
from l4cli.errors import EngineError

_HEADER = 8  # a magic number and the sequence's id
_COUNT = struct.Struct("=I")


def move_to_region(source: Any, target: Any, seq_id: int, n_regions: int) -> None:
    """Copy a sequence of a pool to the same id in a context of `n_regions` regions, which it lacks.

    Both are handles of contexts of the same weights, in whatever order, with the same types of
    cache. EngineError where llama.cpp finds no room, or its states are not what they were when this
    was written; the target then has nothing of the sequence.
    """
    library.forget_log()
    state = memoryview(read_state(source, seq_id)).cast("B")
    window = _HEADER + len(state) - state_size(source, seq_id, WINDOW_ONLY)
    starts = [_HEADER] if window == _HEADER else [_HEADER, window]  # of the caches
    stops = [*starts[1:], len(state)]
    others = _COUNT.size * (n_regions - 1)  # of which each is empty
    data = (ctypes.c_uint8 * (len(state) + others * len(starts)))()
    view = memoryview(data).cast("B")
    view[:_HEADER] = state[:_HEADER]
    at = _HEADER
    for start, stop in zip(starts, stops, strict=True):
        if _COUNT.unpack_from(state, start) != (1,):
            raise EngineError("llama.cpp's state of a sequence is not laid out as it was")
        view[at : at + stop - start] = state[start:stop]
        _COUNT.pack_into(view, at, n_regions)
        at += stop - start + others
    if llama_cpp.llama_state_seq_set_data(target, data, len(data), seq_id) != len(data):
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(target), seq_id, -1, -1)
        raise EngineError(f"llama.cpp could not move a sequence: {library.last_complaint()}")
