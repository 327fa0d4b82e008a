"""The text of a function's result for the model.

A result may be of any size, even endless: it is read only as far as the model gets to see it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

MAX_RESULT = 16_000  # characters of one result: about a quarter of the default context


def text_of(result: Any) -> str:
    """A str as it is, else JSON, else what repr says; cut to MAX_RESULT characters."""
    if isinstance(result, str):
        return bounded(result)
    try:
        return _bounded_json(result)
    except PydanticSerializationError:
        return bounded(repr(result))


def bounded(text: str) -> str:
    """A text cut to MAX_RESULT characters, without lone surrogates, which no model can read."""
    kept = text[:MAX_RESULT].encode("utf-8", errors="replace").decode()
    if len(text) <= MAX_RESULT:
        return kept
    return f"{kept}… [cut: the first {MAX_RESULT:,} of {len(text):,} characters]"


def _bounded_json(value: Any) -> str:
    encoder = json.JSONEncoder(ensure_ascii=False, default=_plainer)
    try:
        text = _beginning(encoder.iterencode(value))
    except TypeError:  # keys that are no strings
        text = _beginning(encoder.iterencode(to_jsonable_python(value)))
    if len(text) <= MAX_RESULT:
        return bounded(text)
    return f"{bounded(text[:MAX_RESULT])}… [cut: the first {MAX_RESULT:,} characters]"


def _beginning(pieces: Iterator[str]) -> str:
    """At least MAX_RESULT + 1 characters of a text that comes in pieces, or all of it."""
    taken, length = [], 0
    for piece in pieces:
        taken.append(piece[: MAX_RESULT + 1])
        length += len(piece)
        if length > MAX_RESULT:
            break
    return "".join(taken)


def _plainer(value: Any) -> Any:
    """What json can write of an object that it does not know."""
    if not isinstance(value, Iterator):
        return to_jsonable_python(value)
    first = list(itertools.islice(value, 1))
    return _Streamed(first, value) if first else []


class _Streamed(list[Any]):
    """An iterator in the form that json takes. It is read item by item, as far as needed."""

    def __init__(self, first: list[Any], rest: Iterator[Any]) -> None:
        super().__init__(first)
        self._rest = rest

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(super().__iter__(), self._rest)
