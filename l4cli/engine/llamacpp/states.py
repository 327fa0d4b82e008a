"""Saves the part of the KV cache that belongs to a part of a sequence, and loads it again.

llama.cpp saves whole sequences only. So a part is first forked to a spare sequence, which costs no
cells in a unified cache, and the spare one is saved. Loading goes the other way round.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from l4cli.engine.llamacpp import library
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.errors import EngineError

WINDOW_ONLY = llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY


class SequenceStates:
    """The States of one context.

    handle: the llama_context.
    spare: a sequence id that nothing else uses.
    num_computed: returns the number of tokens of a sequence.
    advanced: called with a sequence that has grown and its new number of tokens.
    key: everything except the weights that a file must have in common with the context that
        loads it.

    ValueError for positions that are not computed; EngineError if llama.cpp fails.
    """

    segment = SEGMENT_TOKENS

    def __init__(
        self,
        handle: Any,
        spare: int,
        num_computed: Callable[[int], int],
        advanced: Callable[[int, int], None],
        key: str,
    ) -> None:
        self.key = full_key(key)
        self._handle = handle
        self._memory = llama_cpp.llama_get_memory(handle)
        self._spare = spare
        self._advanced = advanced
        self._num_computed = num_computed

    def size(self, seq_id: int, start: int, stop: int) -> int:
        """Bytes that `save` would write, without the token ids."""
        with self._part(seq_id, start, stop):
            return int(llama_cpp.llama_state_seq_get_size(self._handle, self._spare))

    def save(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> int:
        """Write the positions from `start` on, which hold `tokens`; return the number of bytes.

        The caller saves a whole segment with one more token. llama.cpp then leaves out the chunked
        keys of the segment, which no token after it needs.
        """
        library.forget_log()
        ids = np.asarray(tokens, np.int32)
        with self._part(seq_id, start, start + len(tokens)):
            n_bytes = llama_cpp.llama_state_seq_save_file(
                self._handle, os.fsencode(path), self._spare, _pointer(ids), len(ids)
            )
        # llama.cpp does not check whether closing the file could write the rest of it.
        if not n_bytes or path.stat().st_size != n_bytes:
            raise EngineError(f"{path}: {library.last_complaint() or 'not written completely'}")
        return int(n_bytes)

    def load(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> None:
        """Append `tokens` to a sequence of `start` tokens, from a file that begins with them.

        `save` must have written the file: llama.cpp ends the process over a damaged one.
        EngineError if the file does not fit, OSError if there is none.
        """
        if self._num_computed(seq_id) != start:
            raise ValueError(f"sequence {seq_id} does not end at {start}")
        library.forget_log()
        stored = np.zeros(path.stat().st_size // 4, np.int32)
        count = ctypes.c_size_t()
        try:
            loaded = llama_cpp.llama_state_seq_load_file(
                self._handle,
                os.fsencode(path),
                self._spare,
                _pointer(stored),
                len(stored),
                ctypes.byref(count),
            )
            if not loaded:
                path.stat()  # FileNotFoundError if that is the reason
                raise EngineError(f"{path}: {library.last_complaint() or 'not loaded'}")
            if list(stored[: len(tokens)]) != list(tokens) or count.value < len(tokens):
                raise EngineError(f"{path}: holds other tokens")
            stop = start + len(tokens)
            llama_cpp.llama_memory_seq_cp(self._memory, self._spare, seq_id, start, stop)
        finally:
            self._clear_spare()
        self._advanced(seq_id, stop)

    def settle(self, seq_id: int) -> None:
        """Arrange the attention window's cells as `load` would."""
        settle(self._handle, seq_id)

    @contextmanager
    def _part(self, seq_id: int, start: int, stop: int) -> Iterator[None]:
        """While it is open, the spare sequence holds positions `start` to `stop` of another."""
        if not 0 <= start < stop <= self._num_computed(seq_id):
            raise ValueError(f"sequence {seq_id} does not hold {start}..{stop}")
        llama_cpp.llama_memory_seq_cp(self._memory, seq_id, self._spare, start, stop)
        try:
            yield
        finally:
            self._clear_spare()

    def _clear_spare(self) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, self._spare, -1, -1)


def full_key(key: str) -> str:
    """Return `key` with what all states depend on."""
    return f"llama.cpp {llama_cpp.__version__}, {key}, unified"


def settle(handle: Any, seq_id: int) -> None:
    """Arrange the cells of a sequence's attention window as loading it would.

    Sums over the cells are rounded in the order of the cells. A sequence that has left a chunk
    behind continues in the cells that became free; a loaded one begins at the first cell.
    """
    data = read_state(handle, seq_id, WINDOW_ONLY)
    if not llama_cpp.llama_state_seq_set_data_ext(handle, data, len(data), seq_id, WINDOW_ONLY):
        raise EngineError(f"llama.cpp could not reorder cells: {library.last_complaint()}")


def state_size(handle: Any, seq_id: int, flags: int = 0) -> int:
    """Number of bytes that `read_state` returns."""
    return int(llama_cpp.llama_state_seq_get_size_ext(handle, seq_id, flags))


def read_state(handle: Any, seq_id: int, flags: int = 0) -> ctypes.Array[ctypes.c_uint8]:
    """The state of a sequence in a context's cache, or with WINDOW_ONLY that of its window."""
    data = (ctypes.c_uint8 * state_size(handle, seq_id, flags))()
    written = llama_cpp.llama_state_seq_get_data_ext(handle, data, len(data), seq_id, flags)
    if written != len(data):
        raise EngineError(f"llama.cpp could not read a sequence: {library.last_complaint()}")
    return data


def _pointer(ids: np.ndarray[Any, Any]) -> Any:
    return ids.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
