"""Parts of a sequence as files: what of it the KV cache holds, written out and read back.

llama.cpp saves whole sequences only. So a part is first given to a spare sequence, which in a
unified cache costs no cells, and that one is saved; loading goes the other way round.
"""

from __future__ import annotations

import ctypes
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
    """The states of one context, whose sequence `spare` nobody else uses.

    `num_computed` tells how many tokens a sequence has, `advanced` is told where one grows. `key`
    names all that a file must have in common with the context that loads it, beside the weights.
    Positions outside what is computed are a ValueError; EngineError where llama.cpp fails.
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
        self.key = f"llama.cpp {llama_cpp.__version__}, {key}, unified"
        self._handle = handle
        self._memory = llama_cpp.llama_get_memory(handle)
        self._spare = spare
        self._advanced = advanced
        self._num_computed = num_computed

    def size(self, seq_id: int, start: int, stop: int) -> int:
        """Bytes that `save` would write, but for the tokens."""
        with self._part(seq_id, start, stop):
            return int(llama_cpp.llama_state_seq_get_size(self._handle, self._spare))

    def save(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> int:
        """Write positions from `start` on, which hold `tokens`; the number of bytes.

        What a segment's end is saved with is one token more: then llama.cpp leaves out the chunked
        keys of the segment, which nobody needs beyond its end.
        """
        library.forget_log()
        ids = np.asarray(tokens, np.int32)
        with self._part(seq_id, start, start + len(tokens)):
            n_bytes = llama_cpp.llama_state_seq_save_file(
                self._handle, str(path).encode(), self._spare, _pointer(ids), len(ids)
            )
        # llama.cpp does not look whether closing the file could write the rest of it.
        if not n_bytes or path.stat().st_size != n_bytes:
            raise EngineError(f"{path}: {library.last_complaint() or 'not written whole'}")
        return int(n_bytes)

    def load(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> None:
        """Append `tokens` to a sequence of `start` tokens, from a file that begins with them.

        The file must be one that `save` wrote: llama.cpp ends the process over a damaged one.
        EngineError where it does not fit, OSError where there is none.
        """
        if self._num_computed(seq_id) != start:
            raise ValueError(f"sequence {seq_id} does not end at {start}")
        library.forget_log()
        stored = np.zeros(path.stat().st_size // 4, np.int32)
        count = ctypes.c_size_t()
        try:
            loaded = llama_cpp.llama_state_seq_load_file(
                self._handle,
                str(path).encode(),
                self._spare,
                _pointer(stored),
                len(stored),
                ctypes.byref(count),
            )
            if not loaded:
                path.stat()  # FileNotFoundError if that is why
                raise EngineError(f"{path}: {library.last_complaint() or 'not loaded'}")
            if list(stored[: len(tokens)]) != list(tokens) or count.value < len(tokens):
                raise EngineError(f"{path}: holds other tokens")
            stop = start + len(tokens)
            llama_cpp.llama_memory_seq_cp(self._memory, self._spare, seq_id, start, stop)
        finally:
            self._clear_spare()
        self._advanced(seq_id, stop)

    def settle(self, seq_id: int) -> None:
        """Lay the attention window's cells out as `load` would.

        Sums over the cells are rounded in the order they lie in. A sequence of which a chunk was
        left behind goes on in the cells that became free, one that was loaded from the first.
        """
        data = read_state(self._handle, seq_id, WINDOW_ONLY)
        if not llama_cpp.llama_state_seq_set_data_ext(
            self._handle, data, len(data), seq_id, WINDOW_ONLY
        ):
            raise EngineError(f"llama.cpp lost cells: {library.last_complaint()}")

    @contextmanager
    def _part(self, seq_id: int, start: int, stop: int) -> Iterator[None]:
        """Within, the spare sequence holds positions `start` to `stop` of another."""
        if not 0 <= start < stop <= self._num_computed(seq_id):
            raise ValueError(f"sequence {seq_id} does not hold {start}..{stop}")
        llama_cpp.llama_memory_seq_cp(self._memory, seq_id, self._spare, start, stop)
        try:
            yield
        finally:
            self._clear_spare()

    def _clear_spare(self) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, self._spare, -1, -1)


def state_size(handle: Any, seq_id: int, flags: int = 0) -> int:
    """Bytes that `read_state` would give."""
    return int(llama_cpp.llama_state_seq_get_size_ext(handle, seq_id, flags))


def read_state(handle: Any, seq_id: int, flags: int = 0) -> ctypes.Array[ctypes.c_uint8]:
    """What a context's cache holds of a sequence, or with WINDOW_ONLY the attention window's."""
    data = (ctypes.c_uint8 * state_size(handle, seq_id, flags))()
    written = llama_cpp.llama_state_seq_get_data_ext(handle, data, len(data), seq_id, flags)
    if written != len(data):
        raise EngineError(f"llama.cpp could not read a sequence: {library.last_complaint()}")
    return data


def _pointer(ids: np.ndarray[Any, Any]) -> Any:
    return ids.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token))
