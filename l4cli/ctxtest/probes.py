"""The tasks: each makes needles to hide in a document, questions, and the expected answers.

literal   a needle whose words the question repeats; one needle and question for each depth
latent    a needle without a word in common with its question; one of each for each depth
several   several values of one thing, spread over the depths; one question asks for all
tracking  variables that are set to other variables, spread over the depths; the question asks which
          of them have a given value

This module is pure. The tasks are those of RULER (needle, multi-value needle, variable tracking)
and NoLiMa (latent), with new texts from `wordings.toml`.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from l4cli.ctxtest.wordings import wordings

# The most tokens of an answer: more than a correct one needs, because some models are wordy.
_SHORT_ANSWER, _LONG_ANSWER = 32, 64
_LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Needle:
    """A sentence to hide at a depth, from 0.0 (the document's beginning) to 1.0 (its end)."""

    text: str
    depth: float


@dataclass(frozen=True, slots=True)
class Probe:
    """Needles and the question that asks for them.

    task: the task's name.
    needles: the sentences to hide.
    question: the question.
    expected: the values of a correct answer, each with the depth of its needle.
    decoys: wrong values of the same kind. An answer that names one of them finds nothing.
    max_tokens: the most tokens of the answer.
    """

    task: str
    needles: tuple[Needle, ...]
    question: str
    expected: tuple[tuple[str, float], ...]
    decoys: tuple[str, ...]
    max_tokens: int


class _Supply:
    """Draws names, places, numbers and variables; each is used only once."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        words = wordings()["words"]
        self.names = rng.sample(words["names"], len(words["names"]))
        self.places = rng.sample(words["places"], len(words["places"]))
        self._used: set[str] = set()

    def number(self) -> str:
        return self._unused(lambda: str(self.rng.randrange(10_000, 100_000)))

    def variable(self) -> str:
        return self._unused(lambda: "".join(self.rng.choice(_LETTERS) for _ in range(5)))

    def _unused(self, draw: Callable[[], str]) -> str:
        while (value := draw()) in self._used:
            continue
        self._used.add(value)
        return value


def make_probes(rng: Random, tasks: Sequence[str], depths: Sequence[float]) -> list[Probe]:
    """Return the probes of one sample. No needle of a probe answers another probe's question."""
    supply = _Supply(rng)
    return [probe for task in tasks for probe in TASKS[task](supply, depths)]


def _literal(supply: _Supply, depths: Sequence[float]) -> Iterator[Probe]:
    values = [supply.number() for _ in depths]
    for depth, value in zip(depths, values, strict=True):
        statement, question = supply.rng.choice(wordings()["literal"]["pairs"])
        place = supply.places.pop()
        needle = Needle(statement.format(place=place, value=value), depth)
        decoys = tuple(other for other in values if other != value)
        asked = question.format(place=place)
        yield Probe("literal", (needle,), asked, ((value, depth),), decoys, _SHORT_ANSWER)


def _latent(supply: _Supply, depths: Sequence[float]) -> Iterator[Probe]:
    words = wordings()["latent"]
    names = [supply.names.pop() for _ in depths]
    pairs = supply.rng.sample(words["pairs"], len(depths))
    for depth, name, (statement, question) in zip(depths, names, pairs, strict=True):
        needle = Needle(statement.format(name=name), depth)
        decoys = tuple(other for other in names if other != name)
        asked = f"{question} {words['suffix']}"
        yield Probe("latent", (needle,), asked, ((name, depth),), decoys, _SHORT_ANSWER)


def _several(supply: _Supply, depths: Sequence[float]) -> Iterator[Probe]:
    words = wordings()["several"]
    place = supply.places.pop()
    expected = [(supply.number(), depth) for depth in _spread(supply.rng, depths, words["count"])]
    needles = [
        Needle(words["statement"].format(place=place, value=value), depth)
        for value, depth in expected
    ]
    question = words["question"].format(place=place)
    yield Probe("several", tuple(needles), question, tuple(expected), (), _LONG_ANSWER)


def _tracking(supply: _Supply, depths: Sequence[float]) -> Iterator[Probe]:
    words = wordings()["tracking"]
    value, expected, needles = _chain(supply, depths)
    _, astray, more = _chain(supply, depths)
    question = words["question"].strip().format(value=value)
    decoys = tuple(name for name, _ in astray)
    yield Probe("tracking", (*needles, *more), question, tuple(expected), decoys, _LONG_ANSWER)


def _chain(
    supply: _Supply, depths: Sequence[float]
) -> tuple[str, list[tuple[str, float]], list[Needle]]:
    """Return a value, the variables that have it, with their depths, and the needles."""
    words = wordings()["tracking"]
    value, needles = supply.number(), []
    variables = [(supply.variable(), d) for d in _spread(supply.rng, depths, words["count"])]
    before = ""
    for variable, depth in variables:
        line = words["link"] if before else words["start"]
        text = line.format(variable=variable, other=before, value=value)
        needles.append(Needle(text, depth))
        before = variable
    return value, variables, needles


def _spread(rng: Random, depths: Sequence[float], count: int) -> list[float]:
    """Return `count` of the depths in rising order, without repeats if there are enough."""
    if len(depths) >= count:
        return sorted(rng.sample(list(depths), count))
    return sorted(rng.choices(depths, k=count))


TASKS: dict[str, Callable[[_Supply, Sequence[float]], Iterator[Probe]]] = {
    "literal": _literal,
    "latent": _latent,
    "several": _several,
    "tracking": _tracking,
}
MOST_DEPTHS = 21  # the number of latent pairs in wordings.toml
