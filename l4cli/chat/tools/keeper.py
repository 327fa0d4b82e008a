"""A process above the tools that ends whatever they have started.

A tool may start programs that outlive it, in a session of their own (`setsid`), as orphans (a
double fork), with another environment (`env -i`). Linux gives such orphans to the nearest ancestor
that asks for them, here the keeper: all that a tool has started stays below it, and ends with it.
On other systems only the tool's process group ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_MOST_SECONDS = 4.0  # for ending everything; another user's processes (sudo) cannot be ended
_PAUSE = 0.005


class _ToldToEndError(BaseException):
    """SIGTERM has come."""


def fork_below_keeper() -> None:
    """Go on in a child process. This process keeps it, and ends as it ends.

    SIGTERM to this process ends both, and all that they have started.
    """
    before = signal.signal(signal.SIGTERM, _on_terminate)
    tools = 0
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
        tools = os.fork()
        if tools == 0:
            signal.signal(signal.SIGTERM, before)
            os.setsid()  # what it does to its process group does not reach the keeper
            return
        _let_go_of_pipes()
        code = _code_of(tools)
    except _ToldToEndError:
        code = -signal.SIGKILL
    _end_all(tools)
    _end_with(code)


def _on_terminate(_number: int, _frame: object) -> None:
    raise _ToldToEndError


def _let_go_of_pipes() -> None:
    """Leave the standard streams to the tools: a pipe ends when its last holder closes it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)


def _code_of(tools: int) -> int:
    """Wait for the tools' process, and reap the orphans meanwhile; return its exit code."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == tools:
            return os.waitstatus_to_exitcode(status)


def _end_all(tools: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if tools:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(tools, signal.SIGKILL)
    deadline = time.monotonic() + _MOST_SECONDS
    while time.monotonic() < deadline:
        for pid in _descendants():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # none is left: an orphan would be a child
        time.sleep(_PAUSE)


def _descendants() -> Iterator[int]:
    """The processes below this one, as far as /proc shows them."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int(entry.read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    waiting = [os.getpid()]
    while waiting:
        found = children.pop(waiting.pop(), [])
        yield from found
        waiting += found


def _end_with(code: int) -> None:
    """End as the tools' process did: with its exit code, or by its signal."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(abs(code))
