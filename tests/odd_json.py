"""JSON texts with one to three things wrong, by seed.

    text = odd_json({"a": [1, 2]}, random.Random(0))

A value anywhere in the tree is replaced, removed, or stated twice. `broken` is no JSON at all.
"""

from __future__ import annotations

import copy
import json
import random
from typing import Any

NAMES = (
    "", "a", "../x", "/etc/passwd", "a\0b", "\x1b[31mred", "\x1b]52;c;eA==\x07", "\u202eabc",
    "a\nb", "x" * 10_000, "\ud800", "é", "%s{}", "__metadata__", "blk.0", "C:\\x", "\u2066a\u2069",
    "\x9b2J",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 2.5, -0.0, 1e-300, 1e308, float("nan"), float("inf"),
    2**31, 2**32, 2**63, 2**64, 10**9, 10**18, -(2**63), 10**400, "", "1", "F32", [], {}, [None],
    [[]], [1, "a"], ["a"] * 3, {"a": 1}, [2**62] * 4, [0] * 5000, [{}], {"type": "x"}, *NAMES,
)  # fmt: skip
_TWICE = "@@twice"
_RAW = {
    "@@deep": "[" * 100_000 + "]" * 100_000,
    "@@deep-object": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "@@long": "1" * 5_000,
    "@@many": "[" + "0," * 300_000 + "0]",
    "@@exponent": "1e999",
}


def odd_json(value: Any, chance: random.Random) -> bytes:
    """`value` as JSON, with one to three things wrong in it."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        value = _changed(value, chance)
    return _encode(value)


def broken(chance: random.Random, data: bytes) -> bytes:
    """`data` in another encoding, cut, or with something before or after it."""
    text = data.decode("utf-8", "replace")
    return chance.choice(
        (
            b"",
            b" \n",
            b"\0" * 64,
            b"null",
            b"[]",
            b'"text"',
            data[: chance.randrange(len(data) or 1)],
            data + b"}",
            b"\xef\xbb\xbf" + data,
            text.encode("utf-16", "replace"),
            b"[" * 100_000,
            b'{"a":' * 100_000,
            data.replace(b":", b"=", 1),
            data.replace(b'"', b'"\xff', 1),
            b"/* */" + data,
        )
    )


def _changed(value: Any, chance: random.Random) -> Any:
    """`value` with a change at a random place, which is made in it where possible."""
    if not isinstance(value, (dict, list)) or not value:
        return _odd(chance)
    keys: Any = list(value) if isinstance(value, dict) else range(len(value))
    key = chance.choice(keys)
    if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.7:
        value[key] = _changed(value[key], chance)
        return value
    how = chance.random()
    if how < 0.15:
        del value[key]
    elif how < 0.25 and isinstance(value, dict):
        value[f"{key}{_TWICE}"] = chance.choice((value[key], _odd(chance)))
    elif how < 0.35 and isinstance(value, dict):
        value[chance.choice(NAMES)] = value.pop(key)
    elif how < 0.45 and isinstance(value, list):
        value.insert(chance.randint(0, len(value)), chance.choice((value[key], _odd(chance))))
    else:
        value[key] = _odd(chance)
    return value


def _odd(chance: random.Random) -> Any:
    if chance.random() < 0.05:
        return chance.choice(tuple(_RAW))
    return copy.deepcopy(chance.choice(VALUES))


def _encode(value: Any) -> bytes:
    text = json.dumps(value).replace(_TWICE, "")
    for mark, raw in _RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode("utf-8", "surrogatepass")
