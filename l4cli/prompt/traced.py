"""Strings that know which of their characters the chat template wrote itself.

A template writes `<|eot|>` as text, and a user, a file or a tool may write the same text. So the
literals of a template are `Traced`, and what a template does with them keeps track of their
characters: joining, cutting, replacing, formatting. Text that comes from anywhere else is a plain
`str`. An operation that cannot follow the characters gives a plain `str`, never a wrong trace.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex

Spans = tuple[tuple[int, int], ...]  # (start, stop), in order, with something between any two

_CONVERSION = re.compile(
    r"%(?:\((?P<key>[^)]*)\))?(?P<how>[#0\- +]*\d*(?:\.\d*)?)(?P<type>.)", re.S
)
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")  # as str.splitlines breaks

_MOST_REPLACED = 1000  # places whose trace is kept: so many are no markup but, say, line breaks


class Traced(str):
    """A text and the spans of it that are the template's own; all of it if none are given."""

    __slots__ = ("spans",)
    spans: Spans

    def __new__(cls, text: str = "", spans: Spans | None = None) -> Traced:
        traced = super().__new__(cls, text)
        traced.spans = (((0, len(text)),) if text else ()) if spans is None else spans
        return traced

    @property
    def is_own(self) -> bool:
        """Whether the template wrote all of it."""
        return self.spans == ((0, len(self)),) or not self

    # Cutting.

    def __str__(self) -> str:
        return self

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        if not isinstance(key, slice):
            at = range(len(self))[key]
            return self._cut(at, at + 1)
        start, stop, step = key.indices(len(self))
        return self._cut(start, stop) if step == 1 else str.__getitem__(self, key)

    def __iter__(self) -> Iterator[str]:
        return (self._cut(at, at + 1) for at in range(len(self)))

    def strip(self, chars: str | None = None, /) -> str:
        start = len(self) - len(str.lstrip(self, chars))
        return self._cut(start, max(start, len(str.rstrip(self, chars))))

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._cut(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._cut(0, len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str, /) -> str:
        return self._cut(len(prefix) if self.startswith(prefix) else 0, len(self))

    def removesuffix(self, suffix: str, /) -> str:
        return self._cut(0, len(self) - (len(suffix) if self.endswith(suffix) else 0))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        parts = str.split(self, sep, maxsplit)
        return self._found_in_order(parts) if sep is None else self._apart(parts, len(sep))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        parts = str.rsplit(self, sep, maxsplit)
        return self._found_in_order(parts) if sep is None else self._apart(parts, len(sep))

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines, at = [], 0
        for match in _BREAKS.finditer(self):
            lines.append(self._cut(at, match.end() if keepends else match.start()))
            at = match.end()
        return [*lines, self._cut(at, len(self))] if at < len(self) else lines

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        return self._around(str.find(self, sep), sep) or (self, "", "")

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        return self._around(str.rfind(self, sep), sep) or ("", "", self)

    def _around(self, at: int, sep: str) -> tuple[str, str, str] | None:
        end = at + len(sep)
        if at < 0 or not sep:
            str.partition(self, sep)  # which refuses an empty separator
            return None
        return self._cut(0, at), self._cut(at, end), self._cut(end, len(self))

    # Joining.

    def __add__(self, other: str) -> str:
        return concat((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> str:
        return concat((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, count: SupportsIndex) -> str:
        return concat([self] * count.__index__())

    __rmul__ = __mul__

    def join(self, parts: Iterable[str], /) -> str:
        pieces: list[str] = []
        for part in parts:
            if not isinstance(part, str):
                raise TypeError(f"sequence item: expected str, {type(part).__name__} found")
            pieces += [self, part] if pieces else [part]
        return concat(pieces)

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old or str.count(self, old) > _MOST_REPLACED:
            return str.replace(self, old, new, count)
        return concat(_between(self._apart(str.split(self, old, count), len(old)), new))

    def center(self, width: SupportsIndex, fill: str = " ", /) -> str:
        padded = str.center(self, width, fill)
        missing = len(padded) - len(self)
        left = missing // 2 + (missing & len(padded) & 1)  # as str.center divides them
        return concat((padded[:left], self, padded[left + len(self) :]))

    def ljust(self, width: SupportsIndex, fill: str = " ", /) -> str:
        return concat((self, str.ljust(self, width, fill)[len(self) :]))

    def rjust(self, width: SupportsIndex, fill: str = " ", /) -> str:
        padded = str.rjust(self, width, fill)
        return concat((padded[: len(padded) - len(self)], self))

    # Formatting.

    def __mod__(self, values: Any) -> str:
        if not self.is_own:
            return str.__mod__(self, values)
        given = iter(values if isinstance(values, tuple) else (values,))
        pieces: list[str] = []
        at = 0
        for match in _CONVERSION.finditer(self):
            pieces.append(self._cut(at, match.start()))
            at = match.end()
            if match["type"] == "%":
                pieces.append(Traced("%"))
                continue
            try:
                value = next(given) if match["key"] is None else values[match["key"]]
            except StopIteration:
                raise TypeError("not enough arguments for format string") from None
            is_plain = match["type"] == "s" and not match["how"] and isinstance(value, str)
            pieces.append(value if is_plain else f"%{match['how']}{match['type']}" % (value,))
        return concat([*pieces, self._cut(at, len(self))])

    # Letters of the other case are as much the template's own as the letters were.

    def upper(self) -> str:
        return self._changed(str.upper(self))

    def lower(self) -> str:
        return self._changed(str.lower(self))

    def title(self) -> str:
        return self._changed(str.title(self))

    def capitalize(self) -> str:
        return self._changed(str.capitalize(self))

    def _changed(self, text: str) -> str:
        return _as_needed(text, self.spans) if len(text) == len(self) else text

    def _cut(self, start: int, stop: int) -> str:
        text = str.__getitem__(self, slice(start, stop))
        spans = []
        for at in range(bisect_right(self.spans, start, key=_stop), len(self.spans)):
            begin, end = self.spans[at]
            if begin >= stop:
                break
            spans.append((max(begin, start) - start, min(end, stop) - start))
        return _as_needed(text, tuple(spans))

    def _apart(self, parts: list[str], gap: int) -> list[str]:
        """The parts, which lie one after the other with `gap` characters between them."""
        found, at = [], 0
        for part in parts:
            found.append(self._cut(at, at + len(part)))
            at += len(part) + gap
        return found

    def _found_in_order(self, parts: list[str]) -> list[str]:
        """The parts, which lie one after the other with other characters between them."""
        found, at = [], 0
        for part in parts:
            at = str.find(self, part, at)
            found.append(self._cut(at, at + len(part)))
            at += len(part)
        return found


def _stop(span: tuple[int, int]) -> int:
    return span[1]


def plain(text: str) -> str:
    """The same characters without a trace."""
    return str.__getitem__(text, slice(None)) if isinstance(text, Traced) else text


def spans_of(text: str) -> Spans:
    """Which characters of a text are the template's own; none of a text from anywhere else."""
    return text.spans if isinstance(text, Traced) else ()


def concat(pieces: Iterable[str]) -> str:
    """The pieces one after the other."""
    pieces = list(pieces)
    # A template may add to one text again and again: the spans of the first piece are only copied.
    spans = [*spans_of(pieces[0])] if pieces else []
    at = len(pieces[0]) if pieces else 0
    for piece in pieces[1:]:
        if isinstance(piece, Traced):
            for start, stop in piece.spans:
                if spans and spans[-1][1] == at + start:
                    spans[-1] = (spans[-1][0], at + stop)
                else:
                    spans.append((at + start, at + stop))
        at += len(piece)
    return _as_needed("".join(pieces), tuple(spans))


def _between(parts: Iterable[str], gap: str) -> Iterator[str]:
    for number, part in enumerate(parts):
        if number:
            yield gap
        yield part


def _as_needed(text: str, spans: Spans) -> str:
    return Traced(text, spans) if spans else plain(text)
