"""Finds the processes that a tool has started, also those that left its session (`setsid`).

They inherit a variable of the environment, which Linux shows in /proc. A process that was started
with an environment of its own is not found, and neither is any on a system without /proc.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

_VARIABLE = "L4_TOOL_PROCESS"
_MOST_ROUNDS = 10  # a process may fork while the others are being killed


def marked_environment() -> tuple[dict[str, str], bytes]:
    """An environment for a process, and the mark in it by which its descendants are known."""
    value = secrets.token_hex(16)
    return {**os.environ, _VARIABLE: value}, f"{_VARIABLE}={value}".encode()


def kill_marked(mark: bytes) -> None:
    """Kill the processes that inherited the mark, and those that they start meanwhile."""
    for _ in range(_MOST_ROUNDS):
        found = list(_marked(mark))
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _marked(mark: bytes) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            if mark in entry.read_bytes().split(b"\0"):
                yield int(entry.parent.name)
