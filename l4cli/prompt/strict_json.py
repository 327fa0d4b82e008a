"""JSON as its standard has it: NaN, Infinity and numbers beyond all bounds are refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"JSON has no number {text}")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse(text)
    return number


DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_float)


def loads(text: str) -> Any:
    """The value of a JSON text; ValueError if it is none, or nested too deep to be read."""
    try:
        return DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
