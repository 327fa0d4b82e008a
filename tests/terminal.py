"""A terminal for tests: runs a program under a pty and keeps the screen that a user would see.

    with Terminal([sys.executable, "-m", "l4cli", "chat"]) as terminal:
        terminal.wait_for("> ")
        terminal.type("hello\\r")

Nothing here sleeps for a fixed time: `wait_for` reads until the screen matches.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pexpect
import pyte
from starter import shared, starts_alike

CTRL_C, CTRL_D, CTRL_G, CTRL_J, CTRL_U = "\x03", "\x04", "\x07", "\x0a", "\x15"
ENTER, TAB, ALT_ENTER, UP, ESCAPE = "\r", "\t", "\x1b\r", "\x1b[A", "\x1b"


def paste(text: str) -> str:
    """Return text in the form in which a terminal sends pasted text."""
    return f"\x1b[200~{text}\x1b[201~"


class Screen(pyte.HistoryScreen):
    """pyte's screen, which also answers when the program asks for the cursor's position."""

    def __init__(self, columns: int, rows: int, answer: Callable[[str], None]) -> None:
        super().__init__(columns, rows, history=5000, ratio=0.5)
        self._answer = answer

    def write_process_input(self, data: str) -> None:
        self._answer(data)

    @property
    def scrolled_off(self) -> list[str]:
        """Lines that have scrolled off at the top."""
        return [
            "".join(line[x].data for x in range(self.columns)).rstrip() for line in self.history.top
        ]


class _Forked:
    """`l4 …` in a terminal, started as the fixture `l4` does; with pexpect's methods."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None,
        rows: int,
        columns: int,
    ) -> None:
        self.fd, theirs = os.openpty()
        self.setwinsize(rows, columns)
        self._started = shared().start(
            arguments, (theirs, theirs, theirs), env=env, cwd=cwd, in_terminal=True
        )
        os.close(theirs)
        self.pid = self._started.pid
        self.exitstatus: int | None = None
        self.signalstatus: int | None = None

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def setwinsize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_nonblocking(self, size: int, timeout: float) -> bytes:
        """What the program has written; pexpect.TIMEOUT, or pexpect.EOF after its end."""
        if not select.select([self.fd], [], [], timeout)[0]:
            raise pexpect.TIMEOUT("nothing was written")
        try:
            data = os.read(self.fd, size)
        except OSError:
            data = b""
        if not data:
            raise pexpect.EOF("the program has ended")
        return data

    def close(self, force: bool = False) -> None:
        """Close the terminal, for which the kernel sends SIGHUP, and wait for the program's end.

        force: kill what goes on after a second.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        try:
            status = self._started.wait(1 if force else 30)
        except TimeoutError:
            status = self._started.kill()
        self.exitstatus, self.signalstatus = (status, None) if status >= 0 else (None, -status)


class Terminal:
    """A program in a terminal; `timeout` in seconds is the default for waiting."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.timeout = timeout
        variables = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        variables.pop("NO_COLOR", None)
        python, words = [sys.executable, "-m", "l4cli"], list(command)
        self.child: Any
        if words[:3] == python and starts_alike(variables):
            self.child = _Forked(words[3:], variables, cwd, rows, columns)
        else:
            self.child = pexpect.spawn(
                words[0], words[1:], env=variables, cwd=cwd, dimensions=(rows, columns)
            )
            self.child.delaybeforesend = None
        self.screen = Screen(columns, rows, lambda data: self.child.send(data))
        self.stream = pyte.ByteStream(self.screen)
        self.received = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.child.setwinsize(rows, columns)

    def hang_up(self) -> None:
        """Close the terminal, as a user closes its window, and wait for the program's end."""
        self.child.close()

    def lines(self) -> list[str]:
        """Return the lines on the screen, without empty ones at the end."""
        shown = [line.rstrip() for line in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def text(self) -> str:
        """Return the lines that have scrolled off and those on the screen."""
        return "\n".join([*self.screen.scrolled_off, *self.lines()])

    def wait_for(self, pattern: str, *, timeout: float | None = None) -> str:
        """Read until the screen matches a regular expression; return the matched text."""
        return self.wait_until(
            lambda: (match := re.search(pattern, self.text(), re.MULTILINE)) and match[0],
            f"{pattern!r} on the screen",
            timeout,
        )

    def wait_until(self, found: Callable[[], Any], what: str, timeout: float | None = None) -> Any:
        """Read until `found` returns a true value; return that value."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not (value := found()):
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"no {what}; the screen shows:\n{self.text()}")
        return value

    def exit_code(self) -> int:
        """Read until the program ends; return its exit code, negative for a signal."""
        deadline = time.monotonic() + self.timeout
        while self._read(deadline - time.monotonic()):
            pass
        self.child.close()
        status = self.child.exitstatus
        return -int(self.child.signalstatus) if status is None else int(status)

    def _read(self, seconds: float) -> bool:
        """Read output of the program; return False if it has ended or time is up."""
        try:
            data = self.child.read_nonblocking(65536, timeout=max(0.0, seconds))
        except (pexpect.EOF, pexpect.TIMEOUT):
            return False
        self.received += data
        self.stream.feed(data)
        return True
