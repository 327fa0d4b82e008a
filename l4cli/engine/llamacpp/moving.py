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
from l4cli.errors import EngineError

_WINDOW_ONLY = llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
_HEADER = 8  # a magic number and the sequence's id
_COUNT = struct.Struct("=I")


def move_to_part(source: Any, target: Any, seq_id: int, n_parts: int) -> None:
    """Copy a sequence of a pool to the same id in a context of `n_parts` parts, which it lacks.

    Both are handles of contexts of one model, with the same types of cache. EngineError where
    llama.cpp finds no room, or its states are not what they were when this was written.
    """
    library.forget_log()
    state = _state(source, seq_id, 0)
    window = _state(source, seq_id, _WINDOW_ONLY)
    if len(window) == len(state):  # there is but one cache
        caches = [state[_HEADER:]]
    else:
        start_of_window = len(state) - len(window) + _HEADER
        caches = [state[_HEADER:start_of_window], state[start_of_window:]]
    data = bytes(state[:_HEADER]) + b"".join(_in_parts(cache, n_parts) for cache in caches)
    buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
    if llama_cpp.llama_state_seq_set_data(target, buffer, len(data), seq_id) != len(data):
        raise EngineError(f"llama.cpp could not move a sequence: {library.last_complaint()}")


def _in_parts(cache: memoryview, n_parts: int) -> bytes:
    """One stream and its cells -> that many streams, the cells in the first."""
    (n_streams,) = _COUNT.unpack_from(cache)
    if n_streams != 1:
        raise EngineError("llama.cpp's state of a sequence is not laid out as it was")
    return _COUNT.pack(n_parts) + cache[_COUNT.size :] + bytes(_COUNT.size * (n_parts - 1))


def _state(handle: Any, seq_id: int, flags: int) -> memoryview:
    size = int(llama_cpp.llama_state_seq_get_size_ext(handle, seq_id, flags))
    data = (ctypes.c_uint8 * size)()
    if llama_cpp.llama_state_seq_get_data_ext(handle, data, size, seq_id, flags) != size:
        raise EngineError(f"llama.cpp could not read a sequence: {library.last_complaint()}")
    return memoryview(data).cast("B")
