"""Reads JSON from outside: only what the standard allows, and no deeper than l4 can work with."""

from __future__ import annotations

import json
import math
import reprlib
from typing import Any, NoReturn

from l4cli.errors import InputError

# Templates, the compiler of schemas and Python's own json call themselves for each level.
MOST_LEVELS = 200


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"JSON has no number {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text)
    return number


DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def loads(text: str) -> Any:
    """Return the value of a JSON text. ValueError if it is none, or nested too deep to be read."""
    try:
        return DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def parse(text: str, *, is_finite: bool = False, is_unique: bool = False) -> Any:
    """Return the value of a JSON text. InputError, with the reason, if it is not usable.

    is_finite: refuse a number such as 1e999, too, which Python reads as infinity.
    is_unique: refuse an object that states a name twice; otherwise the last one counts.
    """
    try:
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite if is_finite else None,
            object_pairs_hook=_unique if is_unique else None,
        )
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # an integer with more digits than Python converts, or not finite
        raise InputError(f"this JSON cannot be read: {error}") from None
    if text.count("[") + text.count("{") > MOST_LEVELS and _is_deeper(value, MOST_LEVELS):
        raise _too_deep()
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise InputError(f"an object states {reprlib.repr(twice)} twice: leave one of them out")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other more than `levels` deep."""
    level = [value]
    for _ in range(levels + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
        if not level:
            return False
    return True


def _too_deep() -> InputError:
    return InputError(
        f"this JSON cannot be read: it is nested too deeply (more than {MOST_LEVELS} levels)"
    )


def _refuse_constant(name: str) -> None:
    raise InputError(f"not JSON: {name} is not a JSON number")
