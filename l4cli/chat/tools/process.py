"""The child process that runs a file of tools. It may hang, crash or print without end.

A request is one line of JSON, and so is the reply (`host.py`). The process runs in a session of its
own: Ctrl-C in the terminal does not reach it. It ends together with what it started (`keeper.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from l4cli.errors import UsageError
from l4cli.signals import Interrupts, catch_interrupts

_MAX_REPLY = 1 << 20  # bytes: the replies of host.py are far shorter
_MAX_PRINTED = 2_000  # bytes: only the last ones that a tool prints are kept
_POLL = 0.1  # seconds: Ctrl-C is noticed after at most this long
_ENDING = 6.0  # seconds that the keeper gets to end everything
_PARTING = 1.0  # seconds that an idle process gets to end by itself


class ToolProcessError(Exception):
    """The process hung, crashed or was interrupted. It has been killed; the message says why.

    printed: the end of the output that it printed.
    exit_code: the exit code for l4 if a signal to l4 was the reason, else 0.
    """

    def __init__(self, message: str, printed: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.printed, self.exit_code = printed, exit_code


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request, and the end of the output that was printed meanwhile."""

    value: dict[str, Any]
    printed: str


class ToolProcess:
    """A running child process that has loaded the tools in `file`.

    `timeout` is in seconds, for loading and for each request. `loaded` is the reply to loading. The
    process ends with any ToolProcessError, and with `close`. UsageError on Windows, where a program
    cannot wait for two pipes at the same time.
    """

    def __init__(self, file: Path, timeout: float) -> None:
        if os.name != "posix":
            raise UsageError("tools run on Linux and macOS only")
        self._timeout = timeout
        self._process = subprocess.Popen(
            [sys.executable, "-m", "l4cli.chat.tools.host", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        self._requests, self._replies, self._prints = _pipes(self._process)
        self._unread = b""
        self._printed = b""
        self._number = 0  # of the request that waits for its reply
        self._selector = selectors.DefaultSelector()
        for pipe in (self._replies, self._prints):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
        with catch_interrupts() as interrupts:
            self.loaded = self._reply("loading it", interrupts)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None and not self._requests.closed

    def exchange(self, request: Mapping[str, Any], announce: Callable[[], None]) -> Reply:
        """Send a request and wait for its reply, up to the timeout or the first Ctrl-C.

        `announce` is called when Ctrl-C can already stop the call, before the request is sent.
        """
        self._number += 1
        numbered = {"number": self._number, **request}
        with catch_interrupts() as interrupts:
            announce()
            with contextlib.suppress(BrokenPipeError):  # it has ended; `_reply` finds out why
                self._requests.write(json.dumps(numbered).encode() + b"\n")
            return self._reply("the call", interrupts)

    def close(self) -> None:
        """Let the process end by itself if it is idle, else kill it; idempotent."""
        if self._requests.closed:
            return
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PARTING)
        self._kill()

    def _reply(self, doing: str, interrupts: Interrupts) -> Reply:
        """Wait for a reply; `doing` names the wait in error messages."""
        deadline = time.monotonic() + self._timeout
        while b"\n" not in self._unread:
            self._take_in(min(_POLL, max(0.0, deadline - time.monotonic())))
            if reason := self._reason_to_end(doing, deadline, interrupts):
                self._end(reason, interrupts.exit_code)
        line, _, self._unread = self._unread.partition(b"\n")
        self._take_in(0)  # the host flushes what was printed before it replies
        if (value := _parsed(line, self._number)) is None:
            self._end(_intruded(doing))
        return Reply(value, self._take_printed())

    def _end(self, reason: str, exit_code: int = 0) -> NoReturn:
        self._kill()
        raise ToolProcessError(reason, self._take_printed(), exit_code)

    def _take_in(self, seconds: float) -> None:
        """Read the data that arrives on the pipes within `seconds`; drop a pipe that has ended."""
        for key, _ in self._selector.select(seconds):
            pipe: IO[bytes] = key.fileobj  # type: ignore[assignment]
            data = pipe.read(1 << 16)
            if data == b"":
                self._selector.unregister(pipe)
            elif pipe is self._prints:
                self._printed = (self._printed + (data or b""))[-_MAX_PRINTED:]
            else:
                self._unread += data or b""

    def _reason_to_end(self, doing: str, deadline: float, interrupts: Interrupts) -> str:
        """Return why waiting for a reply must end; "" if it has come or may still come."""
        if b"\n" in self._unread:
            return ""
        if interrupts:
            return "stopped by the user"
        if len(self._unread) > _MAX_REPLY:
            return _intruded(doing)
        if self._process.poll() is not None:
            self._take_in(0)  # a process that it has started may hold its pipes open
        if self._replies.fileno() not in self._selector.get_map() or (
            self._process.poll() is not None and b"\n" not in self._unread
        ):
            return f"{doing} ended its process ({self._how_it_ended()})"
        if time.monotonic() >= deadline:
            return f"{doing} took more than {self._timeout:g} s"
        return ""

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_PARTING)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        return f"exit code {code}" if code >= 0 else _signal_name(-code)

    def _take_printed(self) -> str:
        printed, self._printed = self._printed, b""
        return printed.decode("utf-8", errors="replace").strip()

    def _kill(self) -> None:
        """Read what was printed, then kill the process and everything that it started."""
        with contextlib.suppress(OSError):
            self._take_in(0)
        self._process.terminate()  # to the keeper, which ends all that is below it
        try:
            self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:  # a tool has stopped the keeper
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._selector.close()
        for pipe in (self._requests, self._replies, self._prints):
            pipe.close()


def _parsed(line: bytes, number: int) -> dict[str, Any] | None:
    """The reply in a line; None if the line is not the host's reply to the request."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_reply = isinstance(value, dict) and value.pop("number", None) == number
    texts = (value.get(name, "") for name in ("result", "error", "where")) if is_reply else ()
    return value if is_reply and all(isinstance(text, str) for text in texts) else None


def _intruded(doing: str) -> str:
    return f"{doing} wrote to the pipe that is reserved for l4's replies"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr
