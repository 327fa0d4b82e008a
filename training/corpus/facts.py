"""The sentences of the reading documents: facts about things, and filler that answers nothing."""

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from training.corpus import values
from training.corpus.words import HELD_OUT, side_of, table, words


@dataclass(frozen=True)
class Fact:
    """A fact about a thing, and how the document states it.

    name: the thing's name, such as Saium.
    key: the thing (name and kind) and the attribute; no document has two facts with the same key.
    sentence: what the document says.
    question: what is asked; the answer is `value`.
    anchor: the part of the sentence by which the value is found. If the value comes first, it runs
        from right after the value to the end of the thing, else from the thing to the value's end.
    value_first: whether the sentence names the value before the thing.
    """

    name: str
    key: tuple[str, str]
    sentence: str
    question: str
    value: str
    anchor: str
    value_first: bool


@cache
def attributes_of() -> dict[str, list[str]]:
    """Return the attributes of facts.toml by kind of thing."""
    found: dict[str, list[str]] = {}
    for attribute, entry in table("facts").items():
        for thing in entry["things"]:
            found.setdefault(thing, []).append(attribute)
    return found


def make_fact(rng: Random, side: str, name: str) -> Fact:
    """Return a fact about a thing of this name; kind, attribute, value and wording are drawn."""
    kind = rng.choice(list(attributes_of()))
    attribute = rng.choice(attributes_of()[kind])
    entry = table("facts")[attribute]
    thing = f"{name} {kind}" if rng.random() < 0.7 else f"{kind} {name}"
    value = str(values.make(entry["value"], rng, side))
    wording = statement(rng, side, entry["statements"])
    sentence = wording.format(x=thing, v=value, V=value.capitalize())
    value_first = re.search(r"{v}(.*{x})", wording, re.IGNORECASE)
    found = value_first or re.search(r"( {x}.*{v})", wording)
    assert found, f"{wording!r} of facts.toml names no thing or no value"
    anchor = found[1].format(x=thing, v=value)
    question = rng.choice(entry["questions"]).format(x=thing)
    sentence = sentence[0].upper() + sentence[1:]
    key = f"{name} {kind}", attribute
    return Fact(name, key, sentence, question, value, anchor, bool(value_first))


def statement(rng: Random, side: str, wordings: list[str]) -> str:
    """Draw one of the wordings.

    Those that name the value before the thing occur twice as often to train on. They are hard: the
    value's tokens cannot know yet whose value it is.
    """
    if side == HELD_OUT:
        return rng.choice(wordings)
    weights = [2 if w.lower().index("{v}") < w.index("{x}") else 1 for w in wordings]
    return rng.choices(wordings, weights)[0]


def filler(rng: Random, side: str) -> str:
    """Return a sentence that answers no question; each side has its own combinations of words."""
    while True:
        parts = [rng.choice(words(part)) for part in ("when", "who", "did", "what")]
        if side_of(" ".join(parts)) == side:
            break
    when, who, did, what = parts
    ending = f" {rng.choice(words('how'))}" if rng.random() < 0.5 else ""
    if rng.random() < 0.3:
        return f"{who.capitalize()} {did} {what}{ending}."
    return f"{when} {who} {did} {what}{ending}."
