"""Tries a constraint out in another process before this one compiles it.

llguidance has limits, but not on everything: 50,000 times `a*` take a minute and gigabytes, and a
grammar of 4,000 rules, each of which names the next, overflows the stack. Its work cannot be
stopped from Python. So another process, kept for all constraints, does the same work first, with
limits on its time, memory and stack. If it dies of one, that is the constraint's error.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import IO

from l4cli.engine.guidance.translate import complaint, to_llguidance
from l4cli.engine.types import CompileAbortedError, Constraint
from l4cli.errors import RequestError

MEMORY_BYTES = 2 << 30  # of address space
STACK_BYTES = 4 << 20  # half of the usual stack: what is compiled on the other half later fits
_MOST_SECONDS = 3  # of computing; usual constraints take milliseconds
_MOST_WAITING = 10.0  # seconds until an answer, on a machine that has much else to do
_MOST_STARTING = 60.0  # seconds until the process has imported what it needs
_POLL = 0.05  # seconds between two looks for an interrupt
_CHILD = "l4cli.engine.guidance.trial_process"
_TOO_LONG = "takes too long to compile"


class Trials:
    """The process, started with the first constraint and again after each one that ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one constraint at a time
        self._process: subprocess.Popen[bytes] | None = None
        self._is_busy = self._is_interrupted = False

    def grammar(self, constraint: Constraint) -> str:
        """The constraint in llguidance's words, once it has been compiled without harm.

        Raises RequestError, with the reason, if it cannot be compiled within the limits, and
        CompileAbortedError after `interrupt`.
        """
        job = {"kind": constraint.kind, "source": constraint.source, "seconds": _MOST_SECONDS}
        with self._lock:
            self._is_busy, self._is_interrupted = True, False
            try:
                reply = json.loads(self._exchange(json.dumps(job).encode() + b"\n"))
            except BaseException:
                self._end()
                raise
            finally:
                self._is_busy = False
        if "error" in reply:
            raise RequestError(reply["error"])
        return str(reply["grammar"])

    def interrupt(self) -> None:
        """End a trial that is under way. Safe from any thread."""
        self._is_interrupted = self._is_busy

    def close(self) -> None:
        """End the process; idempotent."""
        with self._lock:
            self._end()

    def _exchange(self, line: bytes) -> bytes:
        requests, replies = self._pipes()
        with contextlib.suppress(BrokenPipeError):  # it has ended; why is told below
            requests.write(line)
        return self._line_of(replies, _MOST_WAITING)

    def _line_of(self, replies: IO[bytes], seconds: float) -> bytes:
        reply, deadline = b"", time.monotonic() + seconds
        while not reply.endswith(b"\n"):
            if self._is_interrupted:
                raise CompileAbortedError
            if time.monotonic() > deadline:
                raise RequestError(f"it {_TOO_LONG}: make it smaller")
            if select.select([replies], [], [], _POLL)[0]:
                part = os.read(replies.fileno(), 1 << 16)
                if not part:
                    raise RequestError(f"it {self._reason()}: make it smaller")
                reply += part
        return reply

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        is_new = self._process is None
        if self._process is None:
            path = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [sys.executable, "-m", _CHILD],
                env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdin
        assert self._process.stdout
        if is_new:
            self._line_of(self._process.stdout, _MOST_STARTING)
        return self._process.stdin, self._process.stdout

    def _reason(self) -> str:
        """Why the process has ended."""
        assert self._process
        code = self._process.wait()
        if code == -signal.SIGXCPU:
            return _TOO_LONG
        if code == -signal.SIGSEGV:
            return "is nested too deeply, or has too long a chain of rules, to compile"
        return f"takes more than {MEMORY_BYTES >> 30} GiB of memory to compile"

    def _end(self) -> None:
        if self._process is None:
            return
        with self._process as process:  # closes the pipes and waits
            process.kill()
        self._process = None


_trials = Trials()
atexit.register(_trials.close)
interrupt = _trials.interrupt


def tried(constraint: Constraint) -> str:
    """The constraint in llguidance's words; see `Trials.grammar`.

    Lark is l4's own and may take its time. Windows cannot wait for a pipe, and tries nothing out.
    """
    if constraint.kind != "lark" and os.name == "posix":
        with contextlib.suppress(OSError):  # no process more is allowed: without a trial, then
            return _trials.grammar(constraint)
    try:
        return to_llguidance(constraint)
    except ValueError as error:
        raise RequestError(complaint(error)) from None
