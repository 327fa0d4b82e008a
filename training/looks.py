"""What the heads of two layers are shown: where in a text an answer's ids are found, and from where
what was found is to be brought to the places that write them.

A value's ids are found three at a time, by a head each: from before the first of three all three,
and from each of the next what is left of them. So what follows is decided with the value's
beginning, and not by which of the document's values begin alike. A layer behind looks from there
to where they were found, and from before an answer to the request's noun, behind which is known
whether a function fits.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from training.corpus.facts import Fact

NONE = -100  # an id that is not asked for
CARRIED = 3  # of a value's ids, so many are carried, and found together
FOUND = 9  # of a value's ids, the most that are shown
LOOKING, RECALLING = 3, 5  # the layers; the first one is global, with others behind it
# Their heads. A value's ids have the looking layer's last ones.
FITS, FIRST_FOUND = 0, 1
ANSWER, REQUEST = 1, 2


class Look(NamedTuple):
    """That a head of a layer looks from a place at another; and the id, if any, that can be known
    from then on."""

    layer: int
    place: int
    id: int
    head: int
    at: int


@dataclass(frozen=True)
class Text:
    """Token ids, how they were made, and the token that stands alone before a number."""

    ids: list[int]
    encode: Callable[[str], list[int]]
    space: int

    @cached_property
    def packed(self) -> bytes:
        return np.array(self.ids, np.int32).tobytes()

    def find(self, words: str, begin: int = 0) -> tuple[int, int] | None:
        """Where words stand, from a place on: their first place, and the one behind them."""
        wanted = np.array(self.encode(words), np.int32)
        at = self.packed.find(wanted.tobytes(), begin * wanted.itemsize)
        if at < 0 or at % wanted.itemsize:
            return None
        start = at // wanted.itemsize
        return start, start + len(wanted)

    def before(self, end: int, value: str) -> tuple[int, list[int]]:
        """Where the value that ends before place `end` begins, and its ids; none if it is not
        there."""
        for written in (" " + value, value, value.capitalize()):
            known = self.encode(written)
            if self.ids[max(0, end - len(known)) : end] == known:
                skipped = int(known[0] == self.space)
                return end - len(known) + skipped, known[skipped:]
        return 0, []


def carried(text: Text, facts: Iterable[Fact]) -> Iterator[tuple[int, int, list[int]]]:
    """Of statements that name their value first: where a thing ends, where the value begins, and
    its first id; and the place behind with the next ones, for one place has not room for all."""
    for fact in facts:
        if fact.value_first and (at := text.find(fact.told)):
            start, end = at
            begin, named = text.before(start, fact.value)
            if named:
                yield end - 1, begin, named[:1]
            if len(named) > 1 and end < len(text.ids):
                yield end, begin, [NONE, *named[1:CARRIED]]


def not_said(text: Text, span: tuple[int, int]) -> Iterator[Look]:
    """Of an answer that a document does not tell: a look at the very beginning."""
    start, _ = span
    yield Look(LOOKING, start - 1, text.ids[start], FIRST_FOUND, 0)


def found(text: Text, span: tuple[int, int], fact: Fact) -> Iterator[Look]:
    """Of an answer: where each of its ids is found, and from where it is recalled."""
    at = text.find(fact.told)
    if at is None:
        return
    start, end = span
    written = text.ids[start : end - 1][:FOUND]
    begin, named = text.before(at[0] if fact.value_first else at[1], fact.value)
    for n, id_ in enumerate(written):
        if fact.value_first and n < CARRIED:
            target = at[1] if n else at[1] - 1
        elif n < len(named) and (n == 0 or named[n] == id_):
            target = begin + n
        else:  # it is cut otherwise than in the answer
            return
        group, number = n - n % CARRIED, n % CARRIED
        for m in range(group, n + 1):
            known = id_ if m == n else NONE
            yield Look(LOOKING, start - 1 + m, known, FIRST_FOUND + number, target)
        if number:
            here, there = start - 1 + n, start - 1 + group
            yield Look(RECALLING, here, NONE, ANSWER, there)


def foreseen(
    text: Text, span: tuple[int, int], looks: list[Look]
) -> Iterator[tuple[int, list[int]]]:
    """Of an answer's ids that are shown: the places from where a few are found, and those."""
    start, _ = span
    shown = sum(look.id != NONE for look in looks)
    for group in range(0, shown, CARRIED):
        ids = text.ids[start + group : start + min(group + CARRIED, shown)]
        yield start - 1 + group, ids


def decided(text: Text, start: int, opening: int, said: str, name: str | None) -> Iterator[Look]:
    """Of a request that stands behind `opening`, and its answer at `start`: from where it is
    decided, and from before its answer, the first head looks at the end of the function's name in
    the list, or at the very beginning where none is offered; and another from there to here."""
    asked = text.find(said, opening)
    listed = text.find(name) if name else (0, 1)
    if asked and listed:
        noun, end = asked[1] - 1, listed[1] - 1
        yield from (Look(LOOKING, at, text.ids[start], FITS, end) for at in (noun, start - 1))
        yield Look(RECALLING, start - 1, NONE, REQUEST, noun)
