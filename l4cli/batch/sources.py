"""Splits an input stream into records: JSON Lines, plain text or CSV. Reads lazily.

Only \\n ends a line (U+2028 inside a string is text); `encoding.py` and `json_values.py` read other
inputs. The \\r of CRLF is removed, and blank lines are skipped. An invalid record raises its error
only when its fields are read, so one bad record costs one row and not the run.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from l4cli.batch.encoding import TO_UTF8, utf8_lines
from l4cli.batch.json_values import is_one_value, needs_second, split_values
from l4cli.batch.lines import MAX_ROW
from l4cli.errors import InputError
from l4cli.openai.fields import json_type
from l4cli.prompt import strict_json

Source = Literal["json", "text", "csv"]
_SEPARATOR = re.compile(r'"?sep=([^\w"])"?')  # Excel's line above the header
_MOST_NAMES = 20  # of columns in a message
_MAX_CELL = 2**31 - 1  # the csv module's default limit of 128 KiB is too small for documents


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the input.

    line: the number of its first line, from 1.
    content: its bytes.
    fields: parses the content. Raises InputError if it is invalid.
    has_cells: whether every field is a string, as in CSV.
    """

    line: int
    content: bytes
    fields: Callable[[], dict[str, Any]]
    has_cells: bool = False


def read_records(
    lines: Iterable[bytes], source: Source, *, columns: frozenset[str] | None = None
) -> Iterator[Record]:
    """Yield the records of a stream. A CSV file may have only `columns`; None allows any."""
    lines = utf8_lines(lines)
    if source == "csv":
        return _csv_records(lines, columns)
    if source == "text":
        return _line_records(lines, _parse_text)
    first = next(lines, b"")
    second = next(lines, b"") if needs_second(first) else b""  # it may come much later
    whole = itertools.chain(filter(None, (first, second)), lines)
    if is_one_value(first, second):
        return _value_records(whole)
    return _line_records(whole, _parse_json)


def _value_records(lines: Iterable[bytes]) -> Iterator[Record]:
    """Yield the values of JSON that is not one object a line; `line` is then their position."""

    def refuse(complaint: str) -> dict[str, Any]:
        raise InputError(complaint)

    for position, content, complaint in split_values(lines):
        parse = partial(refuse, complaint) if complaint else partial(_parse_json, content)
        yield Record(position, content, parse)


def _line_records(
    lines: Iterable[bytes], parse: Callable[[bytes], dict[str, Any]]
) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        content = line.strip(b" \t\r\n") if parse is _parse_json else line.rstrip(b"\r\n")
        if content.strip():
            yield Record(number, content, partial(parse, content))


def _parse_json(content: bytes) -> dict[str, Any]:
    try:
        value = strict_json.parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start + 1} of the line: {TO_UTF8}") from None
    except InputError as error:
        if content[:1] in b'{["':
            raise
        raise InputError(f"{error}; lines of plain text need --text") from None
    if not isinstance(value, dict):
        raise InputError(f"a row must be a JSON object, not {json_type(value)}")
    return value


def _parse_text(content: bytes) -> dict[str, Any]:
    try:
        return {"prompt": content.decode("utf-8")}
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start + 1} of the line: {TO_UTF8}") from None


def _csv_records(lines: Iterable[bytes], columns: frozenset[str] | None) -> Iterator[Record]:
    """Yield the records below a CSV header. A cell may contain line breaks.

    Invalid UTF-8 is decoded to lone surrogates and rejected later, so it costs one record only.
    """
    csv.field_size_limit(_MAX_CELL)
    feed = _Lines(lines)
    return _csv_body(feed, _header(feed, columns))


def _csv_body(feed: _Lines, header: _Header) -> Iterator[Record]:
    reader = csv.reader(feed, delimiter=header.delimiter, strict=True)
    while True:
        feed.begin_record()
        error = None
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as failure:
            cells, error = [], InputError(f"not CSV: {failure}")
        if cells or error:
            read = partial(header.read, cells, error)
            yield Record(feed.first_line, feed.record, read, has_cells=True)


@dataclass(frozen=True, slots=True)
class _Header:
    names: tuple[str, ...]
    delimiter: str

    def read(self, cells: list[str], error: InputError | None) -> dict[str, Any]:
        """Return the fields of a record. Raises InputError if it is invalid."""
        if error:
            raise error
        if len(cells) != len(self.names):
            raise InputError(f"{len(cells)} cells where the header has {len(self.names)} columns")
        for name, cell in zip(self.names, cells, strict=True):
            if not _is_utf8(cell):
                raise InputError(f"not UTF-8 in column {name!r}: {TO_UTF8}")
        return dict(zip(self.names, cells, strict=True))


class _Lines:
    """Decodes lines for csv.reader and remembers the lines of the current record."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = iter(lines)
        self._num_read = 0
        self._record = bytearray()
        self.first_line = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._num_read += 1
        if len(self._record) > MAX_ROW:  # it will be refused: only its end is looked for
            return '"' * line.count(b'"')
        self._record += line
        return line.decode("utf-8", errors="surrogateescape")

    def begin_record(self) -> None:
        self._record.clear()
        self.first_line = self._num_read + 1

    @property
    def record(self) -> bytes:
        return bytes(self._record.strip(b"\r\n"))


def _header(feed: _Lines, columns: frozenset[str] | None) -> _Header:
    """Return the column names of the first non-blank line, and its delimiter.

    Raises InputError if the line is not a valid header.
    """
    line = next((line for line in feed if line.strip()), "")
    stated = _SEPARATOR.fullmatch(line.strip("\r\n"))
    if stated:
        line = next((line for line in feed if line.strip()), "")
    # Spreadsheets write ";" where "," is the decimal separator, and can be set to write tabs.
    delimiter = stated[1] if stated else max(",;\t", key=line.count)
    try:
        names = tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error as error:
        raise InputError(f"the CSV header cannot be read: {error}") from None
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            which = "has no name" if not name else f"repeats the name {name!r}"
            raise InputError(f"column {index + 1} of the CSV header {which}")
    if columns is not None:
        _check_columns(names, columns)
    return _Header(names, delimiter)


def _check_columns(names: tuple[str, ...], columns: frozenset[str]) -> None:
    """Raise InputError for a column that is not a field of a row.

    The header is checked once because otherwise every row would fail with the same error.
    """
    if names and not {"prompt", "messages", "document"} & set(names):
        shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
        name = next((name for name in reversed(names) if name.isidentifier()), "COLUMN")
        raise InputError(
            f"the CSV file has no column 'prompt', only {shown}: make prompts from its columns "
            f"with --template-row, such as --template-row 'Summarize: {{{{ {name} }}}}'"
        )
    if unknown := [name for name in names if name not in columns]:
        raise InputError(
            f"the CSV column {unknown[0]!r} is not a field of a row: make prompts from columns "
            "with --template-row, or ignore it with --lenient"
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
