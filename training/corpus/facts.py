"""The matter of the reading documents: facts about things, and sentences that say nothing."""

import re
from dataclasses import dataclass
from functools import cache
from random import Random

from training.corpus import values
from training.corpus.words import HELD_OUT, side_of, table, words


@dataclass(frozen=True)
class Fact:
    name: str
    key: tuple[str, str]
    sentence: str
    question: str
    value: str
    told: str  # where the value comes first, from behind it to the thing's end; else to its own
    value_first: bool


@cache
def attributes_of() -> dict[str, list[str]]:
    """For each kind of thing, what can be said of it."""
    found: dict[str, list[str]] = {}
    for attribute, entry in table("facts").items():
        for thing in entry["things"]:
            found.setdefault(thing, []).append(attribute)
    return found


def make_fact(rng: Random, side: str, name: str) -> Fact:
    kind = rng.choice(list(attributes_of()))
    attribute = rng.choice(attributes_of()[kind])
    entry = table("facts")[attribute]
    thing = f"{name} {kind}" if rng.random() < 0.7 else f"{kind} {name}"
    value = str(values.make(entry["value"], rng, side))
    wording = statement(rng, side, entry["statements"])
    sentence = wording.format(x=thing, v=value, V=value.capitalize())
    behind = re.search(r"{v}(.*{x})", wording, re.IGNORECASE)
    told = (behind or re.search(r"( {x}.*{v})", wording))[1].format(x=thing, v=value)
    question = rng.choice(entry["questions"]).format(x=thing)
    sentence = sentence[0].upper() + sentence[1:]
    key = f"{name} {kind}", attribute
    return Fact(name, key, sentence, question, value, told, bool(behind))


def statement(rng: Random, side: str, wordings: list[str]) -> str:
    """One of the wordings. Those that name the value before the thing are trained on twice as
    often: they are hard, for what stands at the value cannot know yet whose it is."""
    if side == HELD_OUT:
        return rng.choice(wordings)
    weights = [2 if w.lower().index("{v}") < w.index("{x}") else 1 for w in wordings]
    return rng.choices(wordings, weights)[0]


def filler(rng: Random, side: str) -> str:
    """A sentence that answers nothing; each side has its own combinations of words."""
    while True:
        parts = [rng.choice(words(part)) for part in ("when", "who", "did", "what")]
        if side_of(" ".join(parts)) == side:
            break
    when, who, did, what = parts
    ending = f" {rng.choice(words('how'))}" if rng.random() < 0.5 else ""
    if rng.random() < 0.3:
        return f"{who.capitalize()} {did} {what}{ending}."
    return f"{when} {who} {did} {what}{ending}."
