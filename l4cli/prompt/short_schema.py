"""The short form of a JSON Schema, for command lines: `name, age int, tags [str]`. Pure.

    field   = name [type] [":" description]
    type    = "str" | "int" | "float" | "bool" | number ".." number | word "|" word {"|" word}
            | "[" type "]"

The names that JSON Schema has for these types, such as "integer", are taken, too. `1..5` is a whole
number from 1 to 5, and `0.0..1.0`, where a bound has a decimal point, any number. An int or float
without bounds has a limited number of digits: otherwise a small model may write digits until its
tokens run out, and the JSON is never complete. Fields are
separated by commas, or by line breaks if there is one; then a description may have commas. A field
without a type is a str. Words with | between them are a choice: the value of `mood good|bad` is one
of the two. The program `llm` has the same form, without lists and choices.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from l4cli.errors import InputError
from l4cli.near import nearest

_SHORT = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_LONG = {each: each for each in _SHORT.values()}
_TYPES = {**_SHORT, **_LONG, "text": "string", "double": "number"}
_NO_WORDS = {*_LONG, "null"}  # a choice of nothing but these is meant as types
_KNOWN = (
    "str, int, float, bool, a range such as 1..5, a choice such as good|bad, or [str] for a list"
)
_LARGEST = 10**15 - 1  # of an int or float without bounds; exact in every reader of JSON
_STEP = 1e-9  # of a float: more digits after the point are not written
_DIGITS = 15  # of a bound
_RANGE = re.compile(r"(-?\d+(?:\.\d+)?)\.\.(-?\d+(?:\.\d+)?)")
_FIELD = re.compile(r"(?P<name>\S+)(?:\s+(?P<type>\[.*\]|\S+))?(?:\s+(?P<more>.+))?", re.DOTALL)


def schema_of(text: str) -> dict[str, Any]:
    """Return the JSON Schema of an object with exactly these fields.

    Raises InputError, which names the field.
    """
    properties: dict[str, Any] = {}
    pieces = text.split("\n" if "\n" in text.strip() else ",")
    for number, piece in enumerate(filter(str.strip, pieces), 1):
        head, _, description = piece.strip().partition(":")
        where = f"field {number}, {piece.strip()!r}"
        name, kind = _parsed(head.strip(), where)
        if name in properties:
            raise InputError(f"{where}: {name!r} is there already")
        properties[name] = kind
        if description.strip():
            properties[name]["description"] = description.strip()
    if not properties:
        raise InputError("no field in it; write one as in: name, age int")
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _parsed(head: str, where: str) -> tuple[str, dict[str, Any]]:
    match = _FIELD.fullmatch(re.sub(r"\s*(\||\.\.)\s*", r"\1", head))
    if not match:
        raise InputError(f"{where}: a field needs a name before the colon")
    if match["more"]:
        raise InputError(f"{where}: {match['more']!r} is too much; a description follows a colon")
    if match["name"][0] in "[{\"'" or "|" in match["name"]:
        raise InputError(f"{where}: {match['name']!r} is not a name; a type follows its name")
    name, kind = match["name"], match["type"] or "str"
    if name.lower() in _TYPES and kind.lower() not in _TYPES and kind.isidentifier():
        raise InputError(f"{where}: a type follows its name: {kind} {name}")
    return name, _typed(kind, where)


def _typed(kind: str, where: str) -> dict[str, Any]:
    if kind.startswith("[") and kind.endswith("]") and kind[1:-1].strip():
        return {"type": "array", "items": _typed(kind[1:-1].strip(), where)}
    if "|" in kind:
        return {"type": "string", "enum": _choice(kind, where)}
    if ".." in kind:
        return _ranged(kind, where)
    if kind.lower() not in _TYPES:
        near = _near(kind)
        raise InputError(
            f"{where}: no type {kind!r}; "
            + (f"did you mean {' or '.join(near)}?" if near else f"a type is {_KNOWN}")
        )
    return _bounded(_TYPES[kind.lower()])


def _bounded(kind: str) -> dict[str, Any]:
    """Return a type's schema, with bounds for numbers."""
    bounds = {"minimum": -_LARGEST, "maximum": _LARGEST}
    if kind == "integer":
        return {"type": kind, **bounds}
    return {"type": kind, **bounds, "multipleOf": _STEP} if kind == "number" else {"type": kind}


def _ranged(kind: str, where: str) -> dict[str, Any]:
    """Return the schema of a range. Raises InputError if it is none, or no number is within it."""
    match = _RANGE.fullmatch(kind)
    if not match:
        raise InputError(f"{where}: {kind!r} is no range; a range is as in 1..5 or 0.0..1.0")
    low, high = map(Decimal, match.groups())
    if low > high:
        raise InputError(f"{where}: {match[1]} is above {match[2]}; give the smaller number first")
    if max(sum(map(str.isdigit, bound)) for bound in match.groups()) > _DIGITS:
        raise InputError(f"{where}: a bound has more than {_DIGITS} digits; give a shorter one")
    if "." in match[1] + match[2]:
        decimals = max(len(bound.partition(".")[2]) for bound in match.groups())
        bounds = {"minimum": float(low), "maximum": float(high)}
        return {"type": "number", **bounds, "multipleOf": min(_STEP, 10.0**-decimals)}
    return {"type": "integer", "minimum": int(low), "maximum": int(high)}


def _near(kind: str) -> list[str]:
    """Types that may be meant by one that there is not, as l4 writes them."""
    if of := re.fullmatch(r"(?:list|array)(?:\W(\w+)\W?)?|(\w+)\[\]", kind, re.IGNORECASE):
        item = (of[1] or of[2] or "str").lower()
        return [f"[{item if item in _TYPES else 'str'}]"]
    names = {long: short for short, long in _SHORT.items()}
    return list(dict.fromkeys(names[_TYPES[near]] for near in nearest(kind, _TYPES)))


def _choice(kind: str, where: str) -> list[str]:
    """Return the words of a choice. Raises InputError for what may have been meant otherwise."""
    words = kind.split("|")
    if not all(words):
        raise InputError(f"{where}: a word is missing beside a |; a choice is as in good|bad")
    for word in words:
        is_type = word in _SHORT or _NO_WORDS.issuperset(words)
        if is_type or word[0] in "[{\"'" or word[-1] in "]}\"'":
            raise InputError(f"{where}: {word!r} cannot be one of a choice; its words are plain")
    if len(set(words)) < len(words):
        raise InputError(f"{where}: a word is there twice in {kind!r}")
    return words
