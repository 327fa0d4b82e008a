"""Makes llama_contexts: what all those of l4 have in common."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import llama_cpp

from l4cli.engine.llamacpp import library
from l4cli.engine.llamacpp.model import LlamaModel
from l4cli.errors import ModelLoadError
from l4cli.native.cpu import num_physical_cores

ABORTED = 2  # llama_decode's code after an interrupt, see llama.h
_FLASH_ATTN_AUTO = -1
_MOST_THREADS = 512  # GGML_MAX_N_THREADS of ggml.h


def context_params(interrupt: ctypes.Array[ctypes.c_char], n_threads: int | None) -> Any:
    """Return llama_context_params with what does not depend on the context's purpose.

    interrupt: a flag of two bytes: while the first one is not 0, llama_decode ends with ABORTED. It
        must live as long as the context.
    n_threads: None means one per physical core.
    """
    params = llama_cpp.llama_context_default_params()
    params.flash_attn_type = _FLASH_ATTN_AUTO
    params.swa_full = False  # whole-context chunked layers would cost 3.9 times the memory
    params.no_perf = True
    threads = min(n_threads or num_physical_cores(), _MOST_THREADS)
    params.n_threads = params.n_threads_batch = threads
    params.abort_callback = _ABORT_CALLBACK
    params.abort_callback_data = ctypes.addressof(interrupt)
    return params


def make_context(model: LlamaModel, params: Any, what: str, way_out: str) -> Any:
    """Return a new llama_context, which the caller frees.

    what, way_out: what could not be made, and what to try, for the ModelLoadError.
    """
    library.forget_log()
    handle = llama_cpp.llama_init_from_model(model.handle, params)
    if not handle:
        why = library.last_complaint() or "no reason given"
        raise ModelLoadError(f"no context {what} could be made ({why}): {way_out}")
    return handle


def _abort_callback() -> Any:
    """Return `strlen` as llama.cpp's abort callback: it is non-zero if the flag's first byte is.

    llama.cpp calls it for every node of the graph. A Python callback would take the GIL each time.
    This one costs nothing, and any thread can set the flag.
    """
    libc = ctypes.CDLL("msvcrt" if sys.platform == "win32" else None)
    return ctypes.cast(libc.strlen, llama_cpp.ggml_abort_callback)


_ABORT_CALLBACK = _abort_callback()
