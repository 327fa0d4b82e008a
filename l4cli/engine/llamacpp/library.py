"""llama.cpp as a library: started once, silent, its last warnings kept for error messages."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections import deque

import llama_cpp
from llama_cpp import _ggml

from l4cli.native import watcher
from l4cli.printable import harmless

_WARNING = 3  # GGML_LOG_LEVEL_WARN; the levels are none, debug, info, warn, error, cont
_recent: deque[str] = deque(maxlen=50)
_echo = False
_ABORT_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_char_p)  # ggml_abort_callback_t of ggml.h


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]
def _on_log(level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
    line = text.decode("utf-8", errors="replace")
    if level >= _WARNING:
        _recent.append(line.strip())
    if _echo:
        sys.stderr.write(harmless(line))


@_ABORT_FUNCTION  # type: ignore[untyped-decorator, unused-ignore]
def _on_abort(message: bytes) -> None:
    """Report why ggml aborts. ggml ends the process afterwards (`ggml_abort`, ggml/src/ggml.c)."""
    text = message.decode("utf-8", errors="replace")
    if not watcher.tell_check(text):
        sys.stderr.write(f"{harmless(text)}\n")


@functools.cache
def start() -> None:
    """Initialise llama.cpp's backends and take over its log."""
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    _ggml.libggml.ggml_set_abort_callback(_on_abort)
    llama_cpp.llama_backend_init()


def echo_log(on: bool) -> None:
    """Copy llama.cpp's own log to stderr (`--verbose`)."""
    global _echo
    _echo = on


def forget_log() -> None:
    """Forget earlier warnings: only later ones explain the next failure."""
    _recent.clear()


def complaints() -> list[str]:
    """llama.cpp's warnings and errors since `forget_log`."""
    return list(_recent)


def last_complaint() -> str:
    """llama.cpp's most telling line about the last failure; empty if it logged nothing."""
    lines = [line for line in _recent if line]
    # llama.cpp logs the cause first, and then the failure of each caller.
    causes = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    return (causes or lines or [""])[0]


def max_useful_sequences() -> int:
    """The number of sequences at once beyond which more gain nothing: 256, or 64 without a GPU.

    A CPU reaches the limit of its arithmetic sooner. llama.cpp may allow fewer.
    """
    limit = int(llama_cpp.llama_max_parallel_sequences())
    return min(limit, 256 if llama_cpp.llama_supports_gpu_offload() else 64)
