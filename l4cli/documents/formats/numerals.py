"""Writes the numbers of list items: as letters, as Roman numerals."""

from __future__ import annotations

_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
    (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


def letters(number: int) -> str:
    """Return 1 as a, 26 as z, 27 as aa, 28 as ab."""
    text = ""
    while number > 0:
        number, letter = divmod(number - 1, 26)
        text = chr(ord("a") + letter) + text
    return text


def repeated_letters(number: int) -> str:
    """Return 1 as a, 26 as z, 27 as aa, 28 as bb, as Word does."""
    turns, letter = divmod(number - 1, 26)
    return chr(ord("a") + letter) * (min(turns, 30) + 1)


def roman(number: int) -> str:
    """Return a number below 4000 in lower-case Roman numerals, others as they are."""
    if not 0 < number < 4000:
        return str(number)
    text = ""
    for value, letter in _ROMAN:
        text += letter * (number // value)
        number %= value
    return text
