"""The lines of a journal of `l4 run`, from bytes to typed values. This module is pure.

    {"l4_run": 3, "model": "demo:Q8_0", …}                     the settings, always the first line
    {"row": "0f…", "end": 812, "error": true}                  a row of OUT; "error" if it is one
    {"row": "1a…", "end": 990, "document": "77…"}              a row about a document
    {"crash": "SIGSEGV", "rows": ["2b…"]}                      rows in progress at a crash
    {"whole": 990}                                             OUT.retry is complete, see `retry.py`

A kill can cut the last line short, so a last line that is none of these is ignored. Anywhere else
it means that the file was damaged or edited, and nothing that follows can be trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from l4cli.batch.rows import DIGEST_BYTES
from l4cli.batch.suspects import Crash
from l4cli.errors import InputError

VERSION = 3
HEADER = b'{"l4_run": %d' % VERSION
_MOST_BYTES = 1 << 62  # a file cannot be larger


@dataclass(frozen=True, slots=True)
class Settings:
    """The first line: the settings that all rows of OUT share, by name."""

    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowEntry:
    """A row of OUT.

    digest: the digest of the input line.
    end: where the row ends in OUT, in bytes.
    failed: whether the row is an error.
    document: the digest of the document that was read for it, if any.
    """

    digest: bytes
    end: int
    failed: bool = False
    document: bytes | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """OUT.retry has all rows, and `end` bytes; only renaming it is left to do."""

    end: int


Entry = Settings | RowEntry | Crash | Whole


def settings_line(settings: dict[str, Any]) -> bytes:
    return _line({"l4_run": VERSION, **settings})


def row_line(entry: RowEntry) -> bytes:
    value: dict[str, Any] = {"row": entry.digest.hex(), "end": entry.end}
    if entry.failed:
        value["error"] = True
    if entry.document is not None:
        value["document"] = entry.document.hex()
    return _line(value)


def whole_line(entry: Whole) -> bytes:
    return _line({"whole": entry.end})


def read_entries(lines: Iterable[bytes], name: str) -> Iterator[tuple[Entry, int]]:
    """Yield each line's entry, and where the line ends in the journal, in bytes.

    name: the journal's name in messages. Raises InputError for a wrong line that is not the last.
    """
    remaining = iter(lines)
    at = end = 0
    for number, line in enumerate(remaining, 1):
        try:
            entry = _settings(_parsed(line)) if number == 1 else _entry(_parsed(line))
            if isinstance(entry, RowEntry):
                _require(end < entry.end < _MOST_BYTES)
                end = entry.end
            if isinstance(entry, Whole):
                _require(entry.end == end)
        except (ValueError, RecursionError):
            if next(remaining, None) is None:
                return
            raise InputError(
                f"{name}, line {number}: is not what l4 writes into a journal; the file was "
                "damaged or edited: restore it, or give another -o"
            ) from None
        at += len(line)
        yield entry, at


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    _require(line.endswith(b"\n"))
    value = json.loads(line)
    _require(type(value) is dict)
    return value  # type: ignore[no-any-return]


def _settings(value: dict[str, Any]) -> Settings:
    _require(value.pop("l4_run", None) == VERSION)
    return Settings(value)


def _entry(value: dict[str, Any]) -> Entry:
    """Return a line as an entry; ValueError if it is none."""
    names = value.keys()
    if "row" in names:
        _require({"row", "end"} <= names <= {"row", "end", "error", "document"})
        _require(type(value["end"]) is int and value.get("error", True) is True)
        document = _digest(value["document"]) if "document" in names else None
        return RowEntry(_digest(value["row"]), value["end"], "error" in names, document)
    if "crash" in names:
        _require(names == {"crash", "rows"})
        _require(type(value["crash"]) is str and type(value["rows"]) is list)
        return Crash(value["crash"], tuple(map(_digest, value["rows"])))
    _require(names == {"whole"} and type(value["whole"]) is int)
    return Whole(value["whole"])


def _digest(value: Any) -> bytes:
    _require(type(value) is str and len(value) == 2 * DIGEST_BYTES)
    digest = bytes.fromhex(value)
    _require(len(digest) == DIGEST_BYTES)
    return digest


def _require(is_right: bool) -> None:
    if not is_right:
        raise ValueError("not an entry")
