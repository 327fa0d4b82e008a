"""Ctrl-C that works while llama.cpp computes.

Python runs signal handlers only between bytecodes, so a handler alone would wait for the end of
a long `llama_decode`. The interpreter does write the signal's number to the wakeup fd at once,
from C; a small thread reads it there and tells the engine to stop.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Interrupts:
    """How often the user asked to stop, and the exit code that asks for."""

    count: int = 0
    exit_code: int = 0

    def __bool__(self) -> bool:
        return self.count > 0


@contextmanager
def catch_interrupts(
    interrupt: Callable[[], None] = lambda: None, *, is_last: bool = False
) -> Iterator[Interrupts]:
    """Within, SIGINT, SIGTERM and SIGHUP call `interrupt` at once and are counted.

    Nothing is raised: an exception out of a handler may land in one of llama.cpp's callbacks, where
    it is lost. Where it `is_last` the process ends soon after one was counted, and a further one
    that comes too late to be counted is ignored. Outside the main thread, where Python has no
    signals, it does nothing.
    """
    seen = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def on_signal(number: int, _frame: FrameType | None) -> None:
        seen.count += 1
        seen.exit_code = 128 + number  # 130 after Ctrl-C

    with _wakeup(interrupt):
        before = {number: signal.signal(number, on_signal) for number in _numbers()}
        try:
            yield seen
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if is_last and seen else handler)


def _numbers() -> list[int]:
    """The signals that ask to stop. A closed terminal's is none where it is ignored (`nohup`)."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    return numbers


@contextmanager
def _wakeup(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt` from a thread as soon as a signal arrives."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while number := reader.recv(1):
            if number[0] in _numbers():
                interrupt()

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
