"""Reads JSON from outside: only what JSON allows, and nested no deeper than can be worked with."""

from __future__ import annotations

import json
from typing import Any

from l4cli.errors import InputError

# Templates, the compiler of schemas and Python's own json call themselves for each level.
MOST_LEVELS = 200


def parse(text: str) -> Any:
    """Return the value of a JSON text. InputError, with the reason, if it is not usable."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # an integer with more digits than Python converts
        raise InputError(f"this JSON cannot be read: {error}") from None
    if text.count("[") + text.count("{") > MOST_LEVELS and _is_deeper(value, MOST_LEVELS):
        raise _too_deep()
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
