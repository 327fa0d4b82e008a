"""What other threads want a thread to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

Work = Callable[[], None]


class Inbox:
    """Work for one thread, which alone calls `take` and `take_rest`.

    is_closed: whether the thread has come to the end that `close` asked for.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self.is_closed = False

    def put(self, work: Work) -> None:
        """Have the thread do something soon. Safe from any thread."""
        self._queue.put(work)

    def close(self) -> None:
        """Have the thread end once it has done what was put before. Safe from any thread."""
        self._queue.put(self._end)

    def take(self, *, waits: bool) -> None:
        """Do what was asked for.

        waits: wait for something, because there is nothing else to do.
        """
        if waits:
            self._queue.get()()
        with suppress(Empty):
            while not self.is_closed:
                self._queue.get_nowait()()

    def take_rest(self) -> None:
        """Do what was asked for after the end."""
        with suppress(Empty):
            while True:
                self._queue.get_nowait()()

    def _end(self) -> None:
        self.is_closed = True
