"""Parsing lines to rows: the accepted forms, and the error message for each kind of bad line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import papers
import pytest

from l4cli.batch.outcomes import Failure
from l4cli.batch.outputs import failure, to_line
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.engine.types import Constraint


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
        ("plain words", "not JSON: Expecting value at column 1; lines of plain text need --text"),
        ("[1]", "a row must be a JSON object, not a list"),
        ('"x"', "a row must be a JSON object, not a string"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": NaN}', "NaN is not a JSON number"),
        (b'{"prompt": "\xff"}', "not UTF-8 at byte 13 of the line"),
        ("{}", "one of prompt, messages and document, but has none"),
        ('{"prompt": "a", "messages": []}', "but has both prompt and messages"),
        ('{"prompt": 3}', "prompt must be a string, not a number"),
        ('{"messages": []}', "messages is empty"),
        ('{"messages": ["x"]}', "messages must be a list of objects"),
        ('{"messages": [{"content": "x"}]}', r"messages[0] needs a role"),
        ('{"messages": [{"role": "user"}]}', r"messages[0] needs a content"),
        ('{"prompt": "a", "max_token": 3}', "unknown field 'max_token'"),
        ('{"promt": "a"}', "unknown field 'promt' (--lenient ignores it); did you mean prompt?"),
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


def sampling_of(row: str) -> dict[str, Any]:
    read = read_one('{"prompt": "p", ' + row + "}")
    assert isinstance(read, Row), read.error
    return dict(read.sampling)


@pytest.mark.parametrize(
    ("given", "sampling"),
    [
        ('"logprobs": true', {"logprobs": 0}),
        ('"logprobs": false', {}),
        ('"logprobs": 4', {"logprobs": 4}),
        ('"logprobs": true, "top_logprobs": 3', {"logprobs": 3}),
        ('"logit_bias": {"7": -100, "12": 1.5}', {"logit_bias": ((7, -100.0), (12, 1.5))}),
        ('"ignore_eos": true, "presence_penalty": 1', {"ignore_eos": True, "presence_penalty": 1}),
        ('"frequency_penalty": 0.5', {"frequency_penalty": 0.5}),
        ('"repetition_penalty": 1.1', {"repetition_penalty": 1.1}),
        ('"temperature": null, "stop": null, "n": null', {}),
        ('"grammar": "root ::= [a]"', {"constraint": Constraint("grammar", "root ::= [a]")}),
        ('"regex": "a+"', {"constraint": Constraint("regex", "a+")}),
        ('"response_format": {"type": "text"}', {"constraint": None}),
        ('"response_format": {"type": "json_object"}', {"constraint": Constraint("json_object")}),
    ],
)
def test_sampling_fields(given: str, sampling: dict[str, Any]) -> None:
    assert sampling_of(given) == sampling


@pytest.mark.parametrize(
    "form",
    [
        '{"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": true}}',
        '{"type": "json_schema", "schema": SCHEMA}',
        '{"type": "json_object", "schema": SCHEMA}',
        "SCHEMA",
    ],
)
def test_every_way_a_schema_is_given(form: str) -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    expected = {"constraint": Constraint("json_schema", schema)}
    assert sampling_of('"response_format": ' + form.replace("SCHEMA", schema)) == expected


def test_a_schema_for_all_rows_yields_to_a_row_that_wants_text() -> None:
    for_all = {"constraint": Constraint("json_object")}
    own = sampling_of('"response_format": {"type": "text"}')
    assert {**for_all, **own} == {"constraint": None}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"stream": true', "stream: true is not supported"),
        ('"n": 0', "n must be an integer from 1 to 128"),
        ('"n": true', "n must be an integer from 1 to 128"),
        ('"logprobs": "yes"', "logprobs must be true, false or an integer, not a string"),
        ('"top_logprobs": 2', "top_logprobs needs logprobs: true"),
        ('"logit_bias": {"the": 1}', "logit_bias must be an object such as"),
        ('"logit_bias": {"1": true}', "logit_bias must be an object such as"),
        ('"logit_bias": [1]', "logit_bias must be an object such as"),
        ('"ignore_eos": 1', "ignore_eos must be true or false, not a number"),
        ('"grammar": "g", "regex": "r"', "grammar and regex cannot be combined"),
        ('"response_format": "json"', "response_format must be an object, not a string"),
        ('"response_format": {"type": "xml"}', "the type text, json_object or json_schema"),
        ('"response_format": {"type": "json_schema"}', "needs json_schema.schema"),
        ('"tool_choice": "required"', "tool_choice requires a call, but there are no tools"),
        ('"tool_choice": "must"', 'tool_choice must be "none", "auto", "required" or a function'),
        ('"tools": [{"type": "function"}]', "tools[0] needs a function with a name"),
        ('"tools": "f"', "tools must be a list of objects"),
        ('"questions": ["q"]', "questions needs a document"),
        ('"seed": 1.5', "seed must be an integer, not a number"),
        ('"temperature": 1e400', "temperature is too large a number"),
    ],
)
def test_bad_fields_are_named(row: str, message: str) -> None:
    read = read_one('{"prompt": "p", ' + row + "}")
    assert isinstance(read, BadRow)
    assert message in str(read.error)


def test_tools_are_withheld_where_no_call_is_wanted() -> None:
    tools = '"tools": [{"type": "function", "function": {"name": "f"}}]'
    given, withheld = (
        read_one('{"prompt": "p", ' + tools + f', "tool_choice": "{choice}"}}')
        for choice in ("auto", "none")
    )
    assert isinstance(given, Row)
    assert isinstance(withheld, Row)
    assert given.tools is not None
    assert withheld.tools is None


def test_messages_are_taken_as_openai_writes_them() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": text} for text in "ab"]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
            ],
        },
    ]
    row = read_one(json.dumps({"messages": messages}))
    assert isinstance(row, Row)
    assert row.messages is not None
    assert row.messages[0] == {"role": "system", "content": "ab"}
    assert row.messages[1]["content"] == ""
    assert row.messages[1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "messages[0] has a part of type 'image_url': only parts of type text are supported",
        ),
        ({"role": "user", "content": [{"type": "text"}]}, "a part without a text"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "messages[0].tool_calls[0] has arguments that are not JSON",
        ),
        ({"role": "assistant", "tool_calls": [{}]}, "needs a function with a name"),
    ],
)
def test_bad_messages_are_named(message: dict[str, Any], complaint: str) -> None:
    row = read_one(json.dumps({"messages": [message]}))
    assert isinstance(row, BadRow)
    assert complaint in str(row.error)


def test_a_document_row_holds_the_file_beside_the_input(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(b"\xef\xbb\xbf# Title\n")
    line = b'{"id": "d", "document": "a.md", "questions": ["one", "two"]}'
    (row,) = read_rows([line], folder=tmp_path)
    assert isinstance(row, Row)
    assert row.document is not None
    assert row.num_answers == 2
    assert (row.document.path, row.document.source.text) == ("a.md", "# Title\n")
    assert row.document.questions == ("one", "two")


def test_a_document_may_be_of_any_format(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(papers.pdf(["page one", "page two"]))
    line = b'{"document": "a.pdf", "questions": ["why?"]}'
    (row,) = read_rows([line], folder=tmp_path)
    assert isinstance(row, Row)
    assert row.document is not None
    assert row.document.source.text == "page one\n\npage two"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('"document": "none.txt", "questions": ["q"]', "none.txt: No such file or directory"),
        ('"document": ".", "questions": ["q"]', "Is a directory"),
        ('"document": "binary", "questions": ["q"]', "binary: a binary file"),
        ('"document": "latin", "questions": ["q"]', "latin: not UTF-8 at byte 4"),
        ('"document": "empty", "questions": ["q"]', "empty: the file is empty"),
        ('"document": "a\\u0000b", "questions": ["q"]', "embedded null"),
        ('"document": 1, "questions": ["q"]', "document must be a string"),
        ('"document": "ok"', "a row with a document needs questions"),
        ('"document": "ok", "questions": []', "questions is empty"),
        ('"document": "ok", "questions": [1]', "a list of strings"),
        ('"document": "ok", "questions": ["q"], "n": 2', "leave n out"),
        ('"document": "ok", "questions": ["q"], "prompt": "p"', "has prompt and document"),
    ],
)
def test_bad_documents_are_named(tmp_path: Path, fields: str, message: str) -> None:
    (tmp_path / "ok").write_text("text")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    (tmp_path / "latin").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "empty").write_text("\n")
    (row,) = read_rows([b"{%s}" % fields.encode()], folder=tmp_path)
    assert isinstance(row, BadRow)
    assert message in str(row.error)
