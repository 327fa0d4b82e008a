"""Makes values by name, as the .toml files and tools.py ask for them.

Names are those of MAKERS, "one of colours" (a list of words.toml), or a range such as "8-400
metres".
"""

import re
from collections.abc import Callable
from random import Random

from training.corpus import words

Value = str | int | float | bool | None
RANGE = re.compile(r"(-?\d+)-(\d+)(?: (.+))?")


def price(rng: Random, side: str) -> float:
    return words.number(rng, side, 1, 990) + rng.choice((0.25, 0.5, 0.75, 0.95, 0.2, 0.1))


def decimal(rng: Random, unit: str) -> str:
    """Return a decimal to train on. Its integer part may be a number that alone is held out."""
    return f"{rng.randint(0, 99)}.{rng.randint(1, 9)} {unit}"


def title(rng: Random, side: str) -> str:
    kinds = ("Road", "House", "Garden", "River", "Letter", "Key")
    return f"The {words.made_up(rng, side)} {rng.choice(kinds)}"


def email(rng: Random, side: str) -> str:
    name, host = words.first_name(rng, side).lower(), words.made_up(rng, side).lower()
    return f"{name}@{host}.{rng.choice(('com', 'org', 'net'))}"


MAKERS: dict[str, Callable[[Random, str], Value]] = {
    "city": words.city,
    "clock": lambda rng, side: words.clock(rng),
    "code": words.code,
    "date": words.date,
    "email": email,
    "first_name": words.first_name,
    "full_name": words.full_name,
    "made_up": words.made_up,
    "price": price,
    "title": title,
    "year": lambda rng, side: str(words.number(rng, side, 1400, 2020)),
    "yes": lambda rng, side: True,
    "yes or no": lambda rng, side: rng.random() < 0.5,
}


def make(name: str, rng: Random, side: str) -> Value:
    """Return a value of this name. A range with a unit gives text, one without gives a number."""
    if name.startswith("one of "):
        return rng.choice(words.words(name.removeprefix("one of ")))
    if found := RANGE.fullmatch(name):
        low, high, unit = found.groups()
        if unit and side == words.TRAIN and rng.random() < 0.15:
            return decimal(rng, unit)
        value = words.number(rng, side, int(low), int(high))
        return f"{value} {unit}" if unit else value
    return MAKERS[name](rng, side)
