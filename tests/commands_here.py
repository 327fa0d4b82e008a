"""Runs commands as a shell would, but in this process, and says whether they end as they should.

    ended = run_here(["info", "model.gguf"])
    assert ended.wrong is None

Allowed are success, and one clear line with exit code 1 or 2.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import signal
import sys
from dataclasses import dataclass
from typing import Any
from unittest import mock

MOST_SECONDS = 10  # of processor time; ten times that on the clock
_MOST_CHARACTERS = 6_000  # of a line
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None if it took too long."""

    code: int | None
    out: str
    err: str

    @property
    def wrong(self) -> str | None:
        """What is wrong with that; None if nothing is."""
        last = (self.err.splitlines() or [""])[-1]
        if self.code is None:
            return f"takes over {MOST_SECONDS} s"
        if self.code not in (0, 1, 2):
            return f"ends with {self.code}: {self.err[-300:]}"
        if re.search("this is a bug in l4|Traceback|out of memory", self.err):
            return self.err[-500:]
        if self.code == 2 and not last.startswith("l4: "):
            return f"exit code 2 without a line: {self.err[-300:]}"
        if len(last) > _MOST_CHARACTERS + 10:
            return f"a line of {len(last):,} characters: {last[:200]}"
        if found := _CONTROLS.search(self.err):
            return f"writes {found[0]!r} to stderr"
        return None


def run_here(arguments: list[str], *, debug: bool = False) -> Ended:
    """Run `l4 ARGUMENTS` in this process.

    debug: raise what the command raises.
    """
    from l4cli import app

    command = _command()
    out, err = io.StringIO(), io.StringIO()
    code: int | None = None

    def stop(_number: int, _frame: object) -> None:
        raise _HungError

    clocks = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    previous = {number: signal.signal(number, stop) for number in clocks}
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * MOST_SECONDS)  # it waits, or others use the processor
    try:
        with (
            mock.patch.object(sys, "argv", ["l4", *arguments]),
            mock.patch.object(app, "app", command),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = app.invoke(debug=debug)
    except _HungError:
        pass
    finally:
        for number, clock in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, previous[number])
    return Ended(code, out.getvalue(), err.getvalue())


@functools.cache
def _command() -> Any:
    """The commands, made of their functions once: for each run that would take most of its time."""
    from typer.main import get_command

    from l4cli.app import app

    return get_command(app)


class _HungError(BaseException):
    """A command takes too long. No handler of Exception may catch it."""
