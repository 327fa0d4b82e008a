"""Reads JSON that is not one object a line: an array of rows, or objects over several lines.

`l4 run` expects JSON Lines. Other JSON is recognised by its first lines: the first is `[` or begins
with `[{`, or it is `{` alone and a name follows. Broken JSON Lines look like none of these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from l4cli.batch.encoding import TO_UTF8
from l4cli.errors import InputError

_DECODER = json.JSONDecoder()
_BETWEEN = " \t\r\n,"
_SOMETHING = re.compile(r"[^ \t\r\n,]")
_TOKEN = re.compile(r'\\.|["{}[\]]')


class Value(NamedTuple):
    """A value, its position in the input from 1, and why it and the rest cannot be read, if so."""

    position: int
    content: bytes
    complaint: str | None = None


def needs_second(first_line: bytes) -> bool:
    """Whether `is_one_value` has to see the second line."""
    return first_line.strip() == b"{"


def is_one_value(first_line: bytes, second_line: bytes) -> bool:
    """Whether a file that begins with these lines is an array or pretty-printed JSON."""
    start = first_line.strip()
    if needs_second(first_line):
        return second_line.lstrip().startswith(b'"')
    return start in (b"[", b"[]") or start.startswith((b"[{", b"[ {"))


def split_values(lines: Iterable[bytes]) -> Iterator[Value]:
    """Yield the values of an array, or values that follow one another, each once it is complete.

    What cannot be split any further is the last value, with a complaint.
    """
    text, start, position, is_in_array = "", 0, 0, False
    untried: list[str] = []
    brackets = _Brackets()
    for number, line in enumerate(lines, 1):
        try:
            added = line.decode("utf-8")
        except UnicodeDecodeError as error:
            at = f"line {number} is not UTF-8 at byte {error.start + 1}"
            raise InputError(f"{at}: {TO_UTF8}") from None
        if number == 1 and added.lstrip().startswith("["):
            added, is_in_array = added.lstrip()[1:], True
        untried.append(added)
        # A value of many lines is tried only where it may end, else its time would be squared.
        if brackets.lowest_in(added) > 0:
            continue
        text, start = text[start:] + "".join(untried), 0
        untried.clear()
        while (start := _skipped(text, start)) < len(text):
            if is_in_array and text[start] == "]":
                start, is_in_array = start + 1, False
                continue
            try:
                _, end = _DECODER.raw_decode(text, start)
            except (ValueError, RecursionError):
                break
            position += 1
            yield Value(position, text[start:end].encode())
            start = end
    text = text[start:] + "".join(untried)
    if rest := text.strip(_BETWEEN):
        yield Value(position + 1, rest.encode(), _complaint(rest))
    elif is_in_array:
        yield Value(position + 1, b"[", "the array has no end: the file is cut off")


def _skipped(text: str, start: int) -> int:
    """The first index from `start` of what is neither blank nor a comma."""
    return next((m.start() for m in _SOMETHING.finditer(text, start)), len(text))


class _Brackets:
    """Follows how many brackets of JSON are open, line after line."""

    def __init__(self) -> None:
        self._num_open = 0

    def lowest_in(self, line: str) -> int:
        """The lowest number of open brackets after one of this line; no string spans two lines."""
        lowest, is_in_string = self._num_open, False
        for found in _TOKEN.finditer(line):
            token = found[0]
            if token == '"':
                is_in_string = not is_in_string
            elif not is_in_string and len(token) == 1:
                self._num_open += 1 if token in "{[" else -1
                lowest = min(lowest, self._num_open)
        return lowest


def _complaint(rest: str) -> str:
    try:
        json.loads(rest)
    except RecursionError:
        return "this JSON cannot be read: it is nested too deeply; nor can what follows"
    except ValueError as error:
        return f"not JSON: {error}; nothing from here on could be read"
    return "not JSON: a value stands outside of the array"
