"""Made-up names and values. Each side draws from its own share, so that the held-out names and
numbers are never trained on."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from random import Random

import tomllib

TRAIN, HELD_OUT = "train", "held_out"
# The tokenizer's pieces of letters and of digits, once there is one: `use_pieces`.
_letters: list[str] = []
_digits: list[str] = []


@cache
def table(name: str) -> dict:
    """A text file of this folder, by its name."""
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text("utf8"))


def words(name: str) -> list[str]:
    """A list of words.toml."""
    return table("words")[name]


def side_of(text: str) -> str:
    """A fifth of all words, chosen by their hash, is held out."""
    return HELD_OUT if hashlib.sha256(text.encode()).digest()[0] % 5 == 0 else TRAIN


def pick(rng: Random, choices: Sequence[str], side: str) -> str:
    """One of the choices that belong to this side."""
    while True:
        word = rng.choice(choices)
        if side_of(word) == side:
            return word


def made_up(rng: Random, side: str) -> str:
    """A name like Varnok or Theilaberg; there are about a hundred thousand. Almost half of those to
    train on are any letters or pieces at all, so that names are copied piece by piece, however
    odd."""
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
    """A name to train on like Qzuvt or Eaxob."""
    while True:
        name = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 9)))
        if side_of(name) == TRAIN:
            return name.capitalize()


def use_pieces(pieces: Iterable[str]) -> None:
    """Has names to train on joined from a vocabulary's pieces too."""
    plain = sorted({piece.strip().lower() for piece in pieces if piece.isascii()})
    _letters[:] = [piece for piece in plain if piece.isalpha()]
    _digits[:] = [piece for piece in plain if piece.isdigit()]


def any_pieces(rng: Random) -> str:
    """A name to train on like Otoget, lestwith or Vell52: a token that comes in few texts is never
    copied otherwise, and then miscopied where the held-out side has it."""
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
    """To train on, a list's few words come less often: they would be known by heart, not copied."""
    return pick(rng, words(name), side) if rng.random() < listed[side] else made_up(rng, side)


def full_name(rng: Random, side: str) -> str:
    return f"{first_name(rng, side)} {made_up(rng, side)}"


def number(rng: Random, side: str, low: int, high: int) -> int:
    """Small ranges are shared by both sides. Every other number to train on is any of up to four
    digits: of a range's few a model learns which never come, and miscopies the held-out ones."""
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
