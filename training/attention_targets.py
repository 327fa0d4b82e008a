"""Targets for the auxiliary losses: which token a head must attend to, and what it can know then.

The targets come from the corpus, which knows where in a document each answer stands. Two layers
have heads with such targets:

- The search layer is the first global one. Its heads find the answer in the document, or the
  requested function in the list of functions. A value's ids are found in groups of three, one head
  for each: from the place before a group all three, and from each following place the ids that
  remain. So the whole value is chosen when it begins, and not by which other values of the document
  begin alike.
- The fetch layer comes later. From the places inside a group its head attends to the place before
  the group, where the ids were found. From the place before an answer, another head attends to the
  request's noun, after which the model knows whether a function fits.

"Place" means a token's index in a conversation. No torch is needed here.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from training.corpus.facts import Fact

NO_ID = -100  # stands for an id that no loss asks for; torch's cross entropy ignores it
GROUP = 3  # ids of a value that are found together
MOST_IDS = 9  # the most ids of a value that have targets
SEARCH_LAYER, FETCH_LAYER = 3, 5
# Heads of the search layer: one for the function, and GROUP of them for a value's ids.
FUNCTION_HEAD, FIRST_VALUE_HEAD = 0, 1
# Heads of the fetch layer.
FETCH_VALUE_HEAD, FETCH_FUNCTION_HEAD = 1, 2


class AttentionTarget(NamedTuple):
    """A head of a layer must attend from the place `query` to the place `key`.

    next_id: the id after the query that can be known from then on, or NO_ID.
    """

    layer: int
    query: int
    next_id: int
    head: int
    key: int


class CarriedValue(NamedTuple):
    """At `place` the model must know the first ids of a value, which stands before it at `begin`.

    ids: at most GROUP ids; NO_ID where one is not asked for.
    """

    place: int
    begin: int
    ids: list[int]


class NextIds(NamedTuple):
    """After the search layer, the model must know at `place` the ids that follow, at most GROUP."""

    place: int
    ids: list[int]


@dataclass(frozen=True)
class TokenizedText:
    """A conversation's ids, with what it takes to find words in them.

    ids: the token ids.
    encode: turns text into ids.
    space: the id of a single space, which stands before numbers as a token of its own.
    """

    ids: list[int]
    encode: Callable[[str], list[int]]
    space: int

    @cached_property
    def packed(self) -> bytes:
        return np.array(self.ids, np.int32).tobytes()

    def find(self, words: str, begin: int = 0) -> tuple[int, int] | None:
        """Return the first place of these words, and the place after them, from `begin` on."""
        wanted = np.array(self.encode(words), np.int32)
        at = self.packed.find(wanted.tobytes(), begin * wanted.itemsize)
        if at < 0 or at % wanted.itemsize:
            return None
        start = at // wanted.itemsize
        return start, start + len(wanted)

    def value_before(self, end: int, value: str) -> tuple[int, list[int]]:
        """Return the first place and the ids of a value that ends before place `end`.

        The ids are empty if the value does not stand there.
        """
        for written in (" " + value, value, value.capitalize()):
            known = self.encode(written)
            if self.ids[max(0, end - len(known)) : end] == known:
                skipped = int(known[0] == self.space)
                return end - len(known) + skipped, known[skipped:]
        return 0, []


def carried_values(text: TokenizedText, facts: Iterable[Fact]) -> Iterator[CarriedValue]:
    """Yield what must be known after the thing of each statement that names its value first.

    The thing's last token has the value's first id, the token after it the next two: one place has
    no room for all three.
    """
    for fact in facts:
        if fact.value_first and (at := text.find(fact.anchor)):
            start, end = at
            begin, ids = text.value_before(start, fact.value)
            if ids:
                yield CarriedValue(end - 1, begin, ids[:1])
            if len(ids) > 1 and end < len(text.ids):
                yield CarriedValue(end, begin, [NO_ID, *ids[1:GROUP]])


def not_said(text: TokenizedText, answer: tuple[int, int]) -> Iterator[AttentionTarget]:
    """Yield the target of an answer that the document does not give: the very first token."""
    start, _ = answer
    yield AttentionTarget(SEARCH_LAYER, start - 1, text.ids[start], FIRST_VALUE_HEAD, 0)


def answer_targets(
    text: TokenizedText, answer: tuple[int, int], fact: Fact
) -> Iterator[AttentionTarget]:
    """Yield where each id of an answer is found, and from where it is fetched."""
    at = text.find(fact.anchor)
    if at is None:
        return
    start, end = answer
    written = text.ids[start : end - 1][:MOST_IDS]
    begin, ids = text.value_before(at[0] if fact.value_first else at[1], fact.value)
    for n, id_ in enumerate(written):
        if fact.value_first and n < GROUP:
            key = at[1] if n else at[1] - 1
        elif n < len(ids) and (n == 0 or ids[n] == id_):
            key = begin + n
        else:  # the document's tokens divide the value differently from the answer's
            return
        group, number = n - n % GROUP, n % GROUP
        for m in range(group, n + 1):
            next_id = id_ if m == n else NO_ID
            head = FIRST_VALUE_HEAD + number
            yield AttentionTarget(SEARCH_LAYER, start - 1 + m, next_id, head, key)
        if number:
            query, found_at = start - 1 + n, start - 1 + group
            yield AttentionTarget(FETCH_LAYER, query, NO_ID, FETCH_VALUE_HEAD, found_at)


def next_ids(
    text: TokenizedText, answer: tuple[int, int], targets: list[AttentionTarget]
) -> Iterator[NextIds]:
    """Yield the ids of each group of an answer, at the place before the group."""
    start, _ = answer
    known = sum(target.next_id != NO_ID for target in targets)
    for group in range(0, known, GROUP):
        ids = text.ids[start + group : start + min(group + GROUP, known)]
        yield NextIds(start - 1 + group, ids)


def function_targets(
    text: TokenizedText, answer: int, request: int, words: str, function: str | None
) -> Iterator[AttentionTarget]:
    """Yield the targets of a request for a function.

    From the request's noun, and from the place before the answer, the search layer attends to the
    end of the function's name in the list; to the very first token if no function fits. From before
    the answer, the fetch layer attends to the noun.

    answer: the answer's first place.
    request: a place before the request.
    words: the request up to its noun.
    function: the name of the function that fits, or None.
    """
    asked = text.find(words, request)
    listed = text.find(function) if function else (0, 1)
    if asked and listed:
        noun, key = asked[1] - 1, listed[1] - 1
        for query in (noun, answer - 1):
            yield AttentionTarget(SEARCH_LAYER, query, text.ids[answer], FUNCTION_HEAD, key)
        yield AttentionTarget(FETCH_LAYER, answer - 1, NO_ID, FETCH_FUNCTION_HEAD, noun)
