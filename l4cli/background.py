"""Does work in another thread, one piece after the other, so that the caller can go on meanwhile.

The work can be given up: the thread then gets a GivenUpError as soon as it runs Python code. So
whatever waits there (for a pipe, for another process) must not wait for long at a stretch:
`readable` waits in short turns.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from l4cli.signals import GivenUpError

TURN = 0.2  # seconds of waiting after which other Python code of the same thread may run
_T = TypeVar("_T")


class Task(Generic[_T]):
    """One piece of work. `result` may be asked for when it is done."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work = work
        self._ended = threading.Event()
        self._value: list[_T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:
            self._error = error
        self._ended.set()

    def wait(self, seconds: float | None) -> bool:
        """Wait until the work is done, at most so long; None for no limit. Whether it is done."""
        return self._ended.wait(seconds)

    def result(self) -> _T:
        """Return what the work has returned, or raise what it has raised."""
        if self._error is not None:
            raise self._error
        return self._value[0]


class Background:
    """A thread for one task at a time. After `give_up` it is of no use any more."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], _T]) -> Task[_T]:
        """Begin the work; the task before it must be done."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        task = Task(work)
        self._tasks.put(task)
        return task

    def give_up(self) -> None:
        """End the task under way, if there is one, and the thread; idempotent.

        Native code cannot be ended: it is waited for, because it may use what is freed afterwards.
        """
        thread, self._thread = self._thread, None
        if thread is None or thread.ident is None:
            return
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(GivenUpError)
        )
        self._tasks.put(None)  # wakes it if it has nothing to do
        thread.join(None if os.name == "posix" else TURN)  # Windows cannot wait for pipes in turns

    def _run(self) -> None:
        with suppress(GivenUpError):
            while task := self._tasks.get():
                task.run()


def readable(fd: int) -> None:
    """Wait until `fd` has something to read, or has ended."""
    if os.name == "posix":
        while not select.select([fd], [], [], TURN)[0]:
            pass
