"""Makes Ctrl-C work while llama.cpp computes, and while rows are read.

Python runs signal handlers only between bytecodes, so a handler alone would wait for the end of a
long `llama_decode`. But the interpreter writes the signal's number to the wakeup file descriptor
at once, from C. A small thread reads the number there and tells the engine to stop.

Other long work is Python's own: waiting for a line of a pipe or for the process that parses a
document, or rendering a chat template. Within `giving_up`, the handler ends it by an exception.
Work in another thread is ended by the same exception (`background.py`).
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Interrupts:
    """How often the user asked to stop; the exit code that follows is 128 + the signal's number."""

    count: int = 0
    exit_code: int = 0

    def __bool__(self) -> bool:
        return self.count > 0


class GivenUpError(BaseException):
    """A signal ended work within `giving_up`. It passes through `except Exception`.

    exit_code: the exit code that follows, if the command ends by it.
    """

    def __init__(self, exit_code: int = 128 + signal.SIGINT) -> None:
        super().__init__()
        self.exit_code = exit_code


class _GivingUp:
    """What the signal handler knows of `giving_up`.

    seen: the signals counted by the innermost `catch_interrupts`; None outside.
    after: the count of signals from which the work is given up; 0 outside `giving_up`.
    """

    seen: Interrupts | None = None
    after = 0


@contextmanager
def giving_up(after: int) -> Iterator[None]:
    """Within this context, the signal of that number raises GivenUpError, also if it came before.

    For work that leaves nothing behind when it ends in its middle, and never calls llama.cpp with
    a Python callback. It has an effect in the main thread, within `catch_interrupts` or
    `ignore_interrupts`; elsewhere signals end the command anyway.
    """
    if threading.current_thread() is not threading.main_thread() or _GivingUp.after:
        yield
        return
    try:
        _GivingUp.after = after
        _give_up()  # the signal may have come just before
        yield
    finally:
        _GivingUp.after = 0


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Within this context, SIGINT ends nothing but work within `giving_up`."""

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if _GivingUp.after:
            _GivingUp.after = 0
            raise GivenUpError(128 + number)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _give_up() -> None:
    seen, after = _GivingUp.seen, _GivingUp.after
    if seen and after and seen.count >= after:
        _GivingUp.after = 0  # once
        raise GivenUpError(seen.exit_code)


@contextmanager
def catch_interrupts(*on_signal: Callable[[], None], is_last: bool = False) -> Iterator[Interrupts]:
    """Within this context, SIGINT, SIGTERM and SIGHUP are counted and call `on_signal` at once.

    No exception is raised, but for `giving_up`: one raised by a handler may land in a callback from
    llama.cpp, where it is lost. Outside the main thread, where Python receives no signals, this
    does nothing.

    on_signal: called one after the other from another thread for each signal, also while
        llama.cpp computes.
    is_last: the process ends soon after this context. If a signal was counted, later ones are
        ignored after the context, instead of being handled as before.
    """
    seen = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def count(number: int, _frame: FrameType | None) -> None:
        seen.count += 1
        seen.exit_code = 128 + number  # 130 after Ctrl-C
        _give_up()

    with _wakeup(on_signal):
        before = {number: signal.signal(number, count) for number in _numbers()}
        outer, _GivingUp.seen = _GivingUp.seen, seen
        try:
            yield seen
        finally:
            _GivingUp.seen = outer
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if is_last and seen else handler)


def _numbers() -> list[int]:
    """The signals that ask to stop: SIGINT, SIGTERM, and SIGHUP unless it is ignored (`nohup`)."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    return numbers


@contextmanager
def _wakeup(on_signal: Sequence[Callable[[], None]]) -> Iterator[None]:
    """Call the functions from a thread as soon as a signal arrives."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while number := reader.recv(1):
            if number[0] in _numbers():
                for call in on_signal:
                    call()

    thread = threading.Thread(target=watch, name="l4-interrupts", daemon=True)
    thread.start()
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        writer.close()
        thread.join()
        reader.close()
