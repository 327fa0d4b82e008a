"""Makes names, numbers and other words for one of two sides: to train on, or held out.

Each side draws from its own share, so the held-out names and numbers are never trained on.
"""

import hashlib
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRAIN, HELD_OUT = "train", "held_out"
# The tokenizer's pieces of letters and of digits, once `use_pieces` was called.
_letters: list[str] = []
_digits: list[str] = []


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a .toml file."""
    content: dict[str, Any] = tomllib.loads(path.read_text("utf8"))
    return content


@cache
def table(name: str) -> dict[str, Any]:
    """Return the content of one of this folder's .toml files."""
    return read_toml(Path(__file__).parent / f"{name}.toml")


def words(name: str) -> list[str]:
    """Return a list of words.toml."""
    found: list[str] = table("words")[name]
    return found


def side_of(text: str) -> str:
    """Return the side of a word. A fifth of all words is held out, chosen by hash."""
    return HELD_OUT if hashlib.sha256(text.encode()).digest()[0] % 5 == 0 else TRAIN


def pick(rng: Random, choices: Sequence[str], side: str) -> str:
    """Draw one of the choices that belong to this side."""
    while True:
        word = rng.choice(choices)
        if side_of(word) == side:
            return word


def made_up(rng: Random, side: str) -> str:
    """Return a name like Varnok or Theilaberg; there are about a hundred thousand.

    Almost half of the names to train on are random letters or pieces instead. So the model learns
    to copy names piece by piece, however odd they are.
    """
    if side == TRAIN and (chance := rng.random()) < 0.45:
        return any_letters(rng) if chance < 0.11 or not _letters else any_pieces(rng)
    while True:
        name = rng.choice(words("onsets")) + rng.choice(words("vowels"))
        if rng.random() < 0.5:
            name += rng.choice(words("codas"))
        if rng.random() < 0.35:
            name += rng.choice(words("onsets")) + rng.choice(words("vowels"))
        name += rng.choice(words("endings" if rng.random() < 0.6 else "codas"))
        if 4 <= len(name) <= 11 and side_of(name) == side:
            return name.capitalize()


def any_letters(rng: Random) -> str:
    """Return a name to train on like Qzuvt or Eaxob."""
    while True:
        name = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9)))
        if side_of(name) == TRAIN:
            return name.capitalize()


def use_pieces(pieces: Iterable[str]) -> None:
    """Let names to train on also be joined from a vocabulary's pieces."""
    plain = sorted({piece.strip().lower() for piece in pieces if piece.isascii()})
    _letters[:] = [piece for piece in plain if piece.isalpha()]
    _digits[:] = [piece for piece in plain if piece.isdigit()]


def any_pieces(rng: Random) -> str:
    """Return a name to train on like Otoget, lestwith or Vell52.

    Otherwise tokens that occur in few texts would never be copied in training, and the model would
    copy them wrongly on the held-out side.
    """
    while True:
        name = "".join(rng.choice(_letters) for _ in range(rng.choice((1, 2, 2, 3))))
        if rng.random() < 0.7:
            name = name.capitalize()
        if rng.random() < 0.35:
            name += rng.choice(_digits)
        if 3 <= len(name) <= 14 and side_of(name) == side_of(name.capitalize()) == TRAIN:
            return name


def city(rng: Random, side: str) -> str:
    return _listed_or_made_up(rng, "cities", side, {TRAIN: 0.25, HELD_OUT: 0.5})


def first_name(rng: Random, side: str) -> str:
    return _listed_or_made_up(rng, "first_names", side, {TRAIN: 0.35, HELD_OUT: 0.7})


def _listed_or_made_up(rng: Random, name: str, side: str, listed: dict[str, float]) -> str:
    """Draw a word of a list, with the probability `listed` of the side, else a made-up name.

    To train on, the list's few words are rarer; the model would know them by heart, not copy them.
    """
    return pick(rng, words(name), side) if rng.random() < listed[side] else made_up(rng, side)


def full_name(rng: Random, side: str) -> str:
    return f"{first_name(rng, side)} {made_up(rng, side)}"


def number(rng: Random, side: str, low: int, high: int) -> int:
    """Draw a number from a range. Both sides share ranges of less than 20 numbers.

    Half of the numbers to train on are any of up to four digits. From one range the model would
    learn which numbers never occur, and copy the held-out ones wrongly.
    """
    if side == TRAIN and high - low >= 20 and rng.random() < 0.5:
        low, high = 0, 10 ** rng.randint(2, 4) - 1
    while True:
        value = rng.randint(low, high)
        if high - low < 20 or side_of(str(value)) == side:
            return value


def code(rng: Random, side: str) -> str:
    letters = "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    return f"{letters}-{number(rng, side, 100, 9999)}"


def clock(rng: Random) -> str:
    return f"{rng.randint(0, 23):02d}:{rng.randrange(0, 60, 5):02d}"


def date(rng: Random, side: str) -> str:
    return f"{number(rng, side, 1900, 2049)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
