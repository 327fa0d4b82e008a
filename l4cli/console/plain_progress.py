"""Tells progress in lines, on a terminal that cannot move its cursor, such as TERM=dumb."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from l4cli.console.streams import has_progress, note

_EVERY = 10.0  # seconds after which new numbers are worth a line
_AT_LEAST = 1.0  # seconds between two lines
_NUMBERS = re.compile(r"[\d.,]+")


class PlainProgress:
    """Writes a line when the work has come to something else, or when its numbers are old.

    Short work is over before the first line.

    clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written = clock()  # when the last line was
        self._kind = ""  # the last line without its numbers

    def tell(self, text: str) -> None:
        """Tell how far the work is."""
        passed = self._clock() - self._written
        kind = _NUMBERS.sub("", text)
        if passed >= _EVERY or (kind != self._kind and passed >= _AT_LEAST):
            self.tell_now(text)
            self._kind = kind

    def tell_now(self, text: str) -> None:
        """Write a line whatever was written before."""
        if has_progress():
            self._written = self._clock()
            note(text)
