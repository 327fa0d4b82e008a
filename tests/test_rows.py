"""Lines to rows: what is accepted, and how each bad line is named."""

from __future__ import annotations

import json

import pytest

from l4cli.batch.outcomes import Failure
from l4cli.batch.outputs import failure, to_line
from l4cli.batch.rows import BadRow, Row, read_rows


def read_one(line: str | bytes, **options: bool) -> Row | BadRow:
    data = line if isinstance(line, bytes) else line.encode()
    (row,) = read_rows([data], **options)
    return row


def test_prompt_and_messages_rows() -> None:
    rows = list(
        read_rows(
            [
                b'{"prompt": "hi"}\n',
                b'{"id": "b", "messages": [{"role": "user", "content": "x"}], "seed": 7}\n',
            ]
        )
    )
    assert isinstance(rows[0], Row)
    assert (rows[0].line, rows[0].id, rows[0].prompt) == (1, 1, "hi")
    assert isinstance(rows[1], Row)
    assert (rows[1].line, rows[1].id, rows[1].sampling) == (2, "b", {"seed": 7})


def test_bom_crlf_and_blank_lines_are_taken_in_stride() -> None:
    rows = list(read_rows([b'\xef\xbb\xbf{"prompt": "a"}\r\n', b"\r\n", b'{"prompt": "b"}']))
    assert [(row.line, row.prompt) for row in rows if isinstance(row, Row)] == [(1, "a"), (3, "b")]


def test_a_line_separator_inside_a_string_is_text() -> None:
    row = read_one('{"prompt": "a\u2028b"}')
    assert isinstance(row, Row)
    assert row.prompt == "a\u2028b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{nope", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[1]", "a row must be a JSON object, not a list"),
        ('"x"', "a row must be a JSON object, not a string"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": NaN}', "NaN is no JSON number"),
        (b'{"prompt": "\xff"}', "not UTF-8 at byte 13 of the line"),
        ("{}", "either prompt or messages, this one has neither"),
        ('{"prompt": "a", "messages": []}', "this one has both"),
        ('{"prompt": 3}', "prompt must be a string, not a number"),
        ('{"messages": []}', "messages is empty"),
        ('{"messages": ["x"]}', "messages must be a list of objects"),
        ('{"messages": [{"content": "x"}]}', r"messages[0] needs a role"),
        ('{"messages": [{"role": "user"}]}', r"messages[0] needs a content"),
        ('{"prompt": "a", "max_token": 3}', "unknown field 'max_token'"),
        ('{"prompt": "a", "max_tokens": "3"}', "max_tokens must be an integer, not a string"),
        ('{"prompt": "a", "temperature": true}', "temperature must be a number, not a boolean"),
        ('{"prompt": "a", "stop": [1]}', "stop must be a string or a list of strings"),
        ('{"prompt": "a", "id": [1]}', "id must be a string or an integer, not a list"),
    ],
)
def test_bad_lines_say_what_is_wrong(line: str | bytes, message: str) -> None:
    row = read_one(line)
    assert isinstance(row, BadRow)
    assert message in str(row.error)
    assert "\n" not in str(row.error)


def test_a_bad_row_keeps_its_id() -> None:
    row = read_one('{"id": "mine", "prompt": 1}')
    assert failure(row, Failure("invalid_input", "m")) == {
        "id": "mine",
        "error": {"type": "invalid_input", "message": "m", "line": 1},
    }


def test_lenient_ignores_unknown_fields_only() -> None:
    assert isinstance(read_one('{"prompt": "a", "note": 1}', lenient=True), Row)
    assert isinstance(read_one('{"prompt": 1, "note": 1}', lenient=True), BadRow)


def test_output_lines_are_valid_utf8_whatever_they_hold() -> None:
    line = to_line({"id": "\ud800", "text": "你"})
    assert json.loads(line.encode("utf-8")) == {"id": "\ud800", "text": "你"}
    assert to_line({"text": "你"}) == '{"text": "你"}'
