"""Damaged files of JSON lines, made by seed: every kind of wrong line at every place.

    for seed in seeds():
        journal.write_bytes(damaged(journal.read_bytes(), seed))

L4_MEMBERS=100000 makes that many members instead of a few.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from typing import Any

_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 7, 1 << 63, 1 << 64, 10**30, -(10**30), 0.5, 1e300, float("inf"),
    float("nan"), "", "zz", "0" * 15, "0" * 16, "f" * 16, "é" * 16, " 0" * 8, "../../x", "\0",
    "\ud800", [], [[]], [1], [[0, 9]], [[5, 1]], [[-1, 3]], [[0, 1 << 70]], {}, {"end": 3}, [None],
]  # fmt: skip
_LINES: list[bytes] = [
    b"", b"\n", b" \n", b"null\n", b"[]\n", b"{}\n", b"3\n", b'"row"\n', b"\0" * 40, b"\xff\xfe\n",
    b"[" * 100_000 + b"\n", b'{"a":' * 20_000 + b"\n", b"1" * 5_000 + b"\n", b'{"row": "ab', b"{\n",
    b'{"end": 3}\n', b'{"row": "0011223344556677"}\n', b'{"crash": "x"}\n', b"precious notes\n",
    b'{"crash": "SIGSEGV", "rows": "0011223344556677"}\n', b'{"whole": true}\n', b'{"whole": 3}\n',
    b'{"key": [], "text": "x", "finish_reason": "stop"}\n', b'{"done": [[0, 64]]}{"done": []}\n',
]  # fmt: skip


def seeds(count: int = 150) -> range:
    """The seeds of a test's members."""
    return range(int(os.environ.get("L4_MEMBERS", count)))


def damaged(data: bytes, seed: int) -> bytes:
    """Return a journal's bytes with one or two things wrong."""
    rng = random.Random(seed)
    lines = data.splitlines(keepends=True)
    for _ in range(rng.choice((1, 1, 2))):
        lines = rng.choice(_WAYS)(list(lines), rng)
    return b"".join(lines)


def _at(lines: list[bytes], rng: random.Random) -> int:
    return rng.randrange(len(lines)) if lines else 0


def _dropped(lines: list[bytes], rng: random.Random) -> list[bytes]:
    at = _at(lines, rng)
    return lines[:at] + lines[at + 1 :]


def _doubled(lines: list[bytes], rng: random.Random) -> list[bytes]:
    at = _at(lines, rng)
    return lines[: at + 1] + lines[at:]


def _shuffled(lines: list[bytes], rng: random.Random) -> list[bytes]:
    first, second = sorted((_at(lines, rng), _at(lines, rng)))
    if first != second:
        lines[first], lines[second] = lines[second], lines[first]
    return lines


def _replaced(lines: list[bytes], rng: random.Random) -> list[bytes]:
    at = _at(lines, rng)
    return [*lines[:at], rng.choice(_LINES), *lines[at + 1 :]]


def _inserted(lines: list[bytes], rng: random.Random) -> list[bytes]:
    at = rng.randrange(len(lines) + 1)
    return [*lines[:at], rng.choice(_LINES), *lines[at:]]


def _cut(lines: list[bytes], rng: random.Random) -> list[bytes]:
    data = b"".join(lines)
    return data[: rng.randrange(len(data) + 1)].splitlines(keepends=True)


def _flipped(lines: list[bytes], rng: random.Random) -> list[bytes]:
    data = bytearray(b"".join(lines))
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data).splitlines(keepends=True)


def _with_a_value(lines: list[bytes], rng: random.Random) -> list[bytes]:
    """One value of one line replaced, removed or added."""
    at = _at(lines, rng)
    if not lines:
        return lines
    try:
        entry = json.loads(lines[at])
        name = rng.choice([*entry, "more"])
    except (ValueError, TypeError, RecursionError):
        return lines
    if not isinstance(entry, dict):
        return lines
    if rng.random() < 0.2:
        entry.pop(name, None)
    else:
        entry[name] = rng.choice(_VALUES)
    return [*lines[:at], json.dumps(entry).encode() + b"\n", *lines[at + 1 :]]


_Way = Callable[[list[bytes], random.Random], list[bytes]]
_WAYS: list[_Way] = [
    _dropped, _doubled, _shuffled, _replaced, _inserted, _cut, _flipped,
    _with_a_value, _with_a_value, _with_a_value,
]  # fmt: skip
