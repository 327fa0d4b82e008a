"""How much a template may do before it is stopped.

A template is a program, and a model with its chat template may come from anywhere. It can loop for
ever, or make a text of many gigabytes with one operation. So every step, and the size of everything
that is made, is counted while it runs.
"""

from __future__ import annotations

import time
from typing import Any

SECONDS = 10.0
_MAX_STEPS = 2_000_000
_MAX_MADE = 1 << 26  # characters and list items, beside those that the messages account for
_MADE_PER_CHARACTER = 64  # of the messages
_PER_ITEM = 64  # of a list whose text is made: counting one takes as long as so many characters
_MAX_WIDTH = 1_000_000  # of a padding, an indentation, a batch
_MAX_BITS = 100_000  # of an integer
_STEPS_BETWEEN_LOOKS = 32  # at the clock
_LARGE = 1 << 20  # what takes time to make


class OverBudgetError(Exception):
    """The template has used up what it was given."""


class Budget:
    """What one rendering may use."""

    def __init__(self, size: int = 0, num_messages: int = 0, seconds: float = SECONDS) -> None:
        """size: characters of the messages and tools. A template may add to one text for each
        message, and so make the text before it again.
        """
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._num_steps = 0
        self._left = _MAX_MADE + (_MADE_PER_CHARACTER + 4 * num_messages) * size

    def step(self) -> None:
        """Count a pass through a block, or a call; OverBudgetError after too many, or too long."""
        self._num_steps += 1
        if self._num_steps % _STEPS_BETWEEN_LOOKS == 0:
            self._look()
        if self._num_steps > _MAX_STEPS:
            raise OverBudgetError(f"it takes more than {_MAX_STEPS:,} steps")

    def _look(self) -> None:
        if time.monotonic() > self._deadline:
            raise OverBudgetError(f"it runs for more than {self._seconds:g} seconds")

    def make(self, size: int) -> None:
        """Count characters or items that are about to be made; OverBudgetError for too many."""
        self._left -= size
        if self._left < 0:
            raise OverBudgetError("it makes texts that are too large")
        if size > _LARGE:
            self._look()

    def make_text_of(self, value: Any) -> None:
        """Count what the text of a value takes; what it holds twice is written twice."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                waiting += item.keys()
                waiting += item.values()
            elif isinstance(item, (list, tuple)):
                waiting += item
            self.make(len(item) if isinstance(item, str) else _PER_ITEM)

    def replace(self, text: str, old: Any, new: Any) -> None:
        """Count what replacing `old` by `new` adds to a text."""
        if isinstance(old, str) and isinstance(new, str):
            self.make(len(text) + str.count(text, old) * max(0, len(new) - len(old)))

    def check_width(self, width: Any) -> None:
        """OverBudgetError if a number is no sensible width."""
        if isinstance(width, int) and width > _MAX_WIDTH:
            raise OverBudgetError(f"it asks for a width of {width:.3g}")

    def check_bits(self, bits: int) -> None:
        """OverBudgetError if an integer would have so many bits."""
        if bits > _MAX_BITS:
            raise OverBudgetError("it computes numbers that are too large")


def size_of(value: Any) -> int:
    """Characters of all texts in a JSON value, and an item each for what holds them."""
    size, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            size += len(item)
            continue
        size += 1
        if isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, (list, tuple)):
            waiting += item
    return size
