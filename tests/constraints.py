"""Random constraints by seed, as rows: usual ones, and ones that grow without measure."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

_Dice = random.Random
_COUNTS = (0, 1, 2, 3, 10, 100, 1000, 30_000, 2**31, 2**32, 10**20)
_LENGTHS = (0, 1, 5, 300, 30_000)
_MOST_CHARACTERS = 100_000  # of a regex
_LETTERS = "ab1 .-_\\/\"'é😀\n\t]["
_CLASSES = (
    "a",
    ".",
    "[a-z]",
    "[^a]",
    r"\d",
    r"\w",
    r"\p{L}",
    r"\s",
    "😀",
    "(?i:k)",
    "[",
    "\\",
    "^",
    "$",
)
_FORMATS = ("date", "date-time", "uri", "email", "uuid", "ipv4", "hostname", "made-up")
_BOUNDS = (0, 1, -1, 0.1, 1e-300, 1e300, 10**18, -(10**30), 0.5, 3)


def rows(seed: int, count: int) -> Iterator[str]:
    """Rows with a constraint each, as JSON text."""
    dice = random.Random(seed)
    for _ in range(count):
        fields = dice.choice((_regex_row, _grammar_row, _schema_row, _schema_row))(dice)
        row = {"prompt": "x", "max_tokens": dice.choice((1, 4, 30)), **fields}
        if dice.random() < 0.3:
            row["temperature"] = 0
        yield json.dumps(row)


def _regex_row(dice: _Dice) -> dict[str, Any]:
    return {"regex": _regex(dice, dice.randint(0, 6))}


def _regex(dice: _Dice, depth: int) -> str:
    if depth == 0:
        return _text(dice) if dice.random() < 0.2 else dice.choice(_CLASSES)
    inner = _regex(dice, depth - 1)
    ways: tuple[Callable[[], str], ...] = (
        lambda: f"({inner})" + dice.choice("*+?"),
        lambda: f"({inner}){{{_count(dice)}}}",
        lambda: f"({inner}){{{_count(dice)},{_count(dice)}}}",
        lambda: f"({inner}){{{_count(dice)},}}",
        lambda: inner + _regex(dice, depth - 1),
        lambda: f"({inner}|{_regex(dice, depth - 1)})",
        lambda: inner * min(_count(dice), 40_000 // (len(inner) + 1) + 1),
        lambda: "|".join(inner + str(n) for n in _fitting(inner, dice.choice((2, 50, 2000)))),
        lambda: "(" * depth * 60 + inner + ")" * depth * 60,
        lambda: f"(?={inner})" if dice.random() < 0.3 else f"(?:{inner})",
    )
    return dice.choice(ways)()[:_MOST_CHARACTERS]


def _fitting(text: str, count: int) -> range:
    """A range of this length, or of as many as fill a regex with copies of `text`."""
    return range(min(count, _MOST_CHARACTERS // (len(text) + 2) + 1))


def _grammar_row(dice: _Dice) -> dict[str, Any]:
    size = dice.choice((*(1, 3, 10, 50) * 6, 2000))  # the last take seconds each
    shape = dice.choice(("chain", "tree", "random"))
    rules = []
    for n in range(size):
        if shape == "chain":
            body = f"{dice.choice(('', _literal(dice)))} r{n + 1}"
        elif shape == "tree":
            body = f"r{min(size, 2 * n + 1)} | r{min(size, 2 * n + 2)}"
        else:
            body = " ".join(_part(dice, size) for _ in range(dice.randint(1, 5)))
        rules.append(f"r{n} ::= {body}")
    return {"grammar": "\n".join(["root ::= r0", *rules, f'r{size} ::= "end"'])}


def _part(dice: _Dice, size: int) -> str:
    atom = dice.choice((_literal(dice), "[a-z]", "[^\\n]", ".", f"r{dice.randint(0, size)}", '""'))
    times = dice.choice(("", "", "", "*", "+", "?", "{3}", f"{{{_count(dice)},{_count(dice)}}}"))
    return dice.choice((atom + times, f"({atom}){times}", f"({atom} | {_literal(dice)}){times}"))


def _literal(dice: _Dice) -> str:
    return json.dumps(_text(dice), ensure_ascii=False)


def _schema_row(dice: _Dice) -> dict[str, Any]:
    schema = _schema(dice, dice.choice((1, 2, 3, 60)))
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def _schema(dice: _Dice, depth: int) -> Any:
    if depth == 0:
        return _leaf(dice)
    if depth > 5:  # deep and thin
        inner = _schema(dice, depth - 1)
        return dice.choice(({"type": "array", "items": inner}, {"properties": {"a": inner}}))
    ways: tuple[Callable[[], Any], ...] = (
        lambda: {"type": "array", "items": _schema(dice, depth - 1), **_range(dice, "Items")},
        lambda: _object(dice, depth),
        lambda: _object(dice, depth),
        lambda: {"anyOf": [_schema(dice, depth - 1) for _ in range(dice.randint(0, 4))]},
        lambda: {"oneOf": [_schema(dice, depth - 1) for _ in range(2)]},
        lambda: {"allOf": [_schema(dice, depth - 1) for _ in range(2)]},
        lambda: {"not": _schema(dice, depth - 1)},
        lambda: {"$defs": {"d": _schema(dice, depth - 1)}, "$ref": "#/$defs/d"},
        lambda: {"$defs": {"d": {"items": {"$ref": "#/$defs/d"}}}, "$ref": "#/$defs/d"},
        lambda: {"$ref": dice.choice(("#", "#/nowhere", "http://x/y", "#/$ref"))},
    )
    return dice.choice(ways)()


def _object(dice: _Dice, depth: int) -> dict[str, Any]:
    names = {_text(dice): _schema(dice, depth - 1) for _ in range(dice.randint(0, 4))}
    if dice.random() < 0.05:
        names |= {f"p{n}": {"type": "string"} for n in range(dice.choice((100, 1000)))}
    required = dice.sample(list(names), dice.randint(0, min(3, len(names))))
    more = dice.choice((True, False, {"type": "null"}))
    schema = {"type": "object", "properties": names, "required": required}
    if dice.random() < 0.2:
        schema["patternProperties"] = {_regex(dice, 2): {}}
    return {**schema, "additionalProperties": more, **_range(dice, "Properties")}


def _leaf(dice: _Dice) -> Any:
    ways: tuple[Callable[[], Any], ...] = (
        lambda: dice.choice((True, False, {})),
        lambda: {"type": "string", **_range(dice, "Length")},
        lambda: {"type": "string", "pattern": _regex(dice, dice.randint(0, 4))},
        lambda: {"type": "string", "format": dice.choice(_FORMATS)},
        lambda: {"type": dice.choice(("integer", "number")), **_numeric(dice)},
        lambda: {"const": _text(dice)},
        lambda: {"enum": [_text(dice) for _ in range(dice.choice((0, 1, 5)))]},
        lambda: {"enum": list(range(dice.choice((3, 3000))))},
        lambda: {"type": dice.choice(("null", "boolean", "made-up", ["string", "null"], 3, []))},
    )
    return dice.choice(ways)()


def _range(dice: _Dice, what: str) -> dict[str, Any]:
    bounds = {f"min{what}": _count(dice), f"max{what}": _count(dice)}
    return {name: bound for name, bound in bounds.items() if dice.random() < 0.3}


def _numeric(dice: _Dice) -> dict[str, Any]:
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    return {name: dice.choice(_BOUNDS) for name in names if dice.random() < 0.3}


def _count(dice: _Dice) -> int:
    return dice.choice(_COUNTS[:6] if dice.random() < 0.7 else _COUNTS)


def _text(dice: _Dice) -> str:
    length = dice.choice(_LENGTHS[:3] if dice.random() < 0.9 else _LENGTHS)
    start = "".join(dice.choices(_LETTERS, k=min(length, 500)))
    return start * max(1, length // 500)
