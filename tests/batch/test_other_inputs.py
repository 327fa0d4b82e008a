"""Inputs that other programs write: UTF-16, JSON arrays, Excel's CSV, OpenAI's optional fields."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from l4cli.batch.lines import lines_of
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.batch.sources import Source
from l4cli.errors import InputError


def read(data: bytes, source: Source = "json") -> list[Row | BadRow]:
    return list(read_rows(io.BytesIO(data), source=source))


def prompts(rows: list[Row | BadRow]) -> list[str | None]:
    return [row.prompt for row in rows if isinstance(row, Row)]


def complaints(rows: list[Row | BadRow]) -> list[str]:
    return [str(row.error) for row in rows if isinstance(row, BadRow)]


LINES = '{"prompt": "Grüße 你好 \u0a0a"}\r\n{"prompt": "b"}\r\n'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_the_encodings_that_programs_write_are_read(encoding: str) -> None:
    rows = read(LINES.encode(encoding))
    assert prompts(rows) == ["Grüße 你好 \u0a0a", "b"]
    assert [row.line for row in rows] == [1, 2]


class SlowPipe(io.RawIOBase):
    """A pipe with one line in it; whoever reads on would wait for the next."""

    def __init__(self, line: bytes) -> None:
        self._lines = [line]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        assert self._lines, "waits for the next line"
        line = self._lines.pop()
        buffer[: len(line)] = line
        return len(line)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_a_row_of_a_pipe_waits_for_no_other_in_any_encoding(encoding: str) -> None:
    text = "\u010a and \u0a0a have the byte of a line break in them"
    pipe = io.BufferedReader(SlowPipe(f"q: {text}\n".encode(encoding)))
    row = next(read_rows(lines_of(pipe), source="text"))
    assert prompts([row]) == [f"q: {text}"]


def test_damaged_utf_16_and_utf_32_are_named() -> None:
    with pytest.raises(InputError, match="UTF-16, and is damaged"):
        read(LINES.encode("utf-16")[:-1])
    with pytest.raises(InputError, match="UTF-32: convert it"):
        read(LINES.encode("utf-32"))


@pytest.mark.parametrize(
    "text",
    [
        '[{"prompt": "a"}, {"prompt": "b"}]',
        '[\n  {"prompt": "a"},\n  {"prompt": "b"}\n]\n',
        '[\n  {\n    "prompt": "a"\n  },\n  {\n    "prompt": "b",\n    "stop": ["]"]\n  }\n]\n',
        '{\n  "prompt": "a"\n}\n{\n  "prompt": "b",\n  "logit_bias": {\n    "1": 2\n  }\n}\n',
    ],
)
def test_json_that_is_not_one_object_a_line_is_read(text: str) -> None:
    rows = read(text.encode())
    assert prompts(rows) == ["a", "b"]
    assert [row.id for row in rows] == [1, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[{"prompt": "a"},\n{"prompt": oops},\n{"prompt": "c"}]', "nothing from here on"),
        ('[{"prompt": "a"},\n', "the array has no end"),
        ('[{"prompt": "a"}]\n{"prompt": "b"', "nothing from here on"),
        ('[{"prompt": "a"}, 5]', "must be a JSON object, not a number"),
    ],
)
def test_what_is_wrong_in_an_array_is_one_error_row(text: str, complaint: str) -> None:
    rows = read(text.encode())
    assert prompts(rows) == ["a"]
    (found,) = complaints(rows)
    assert complaint in found


def test_a_broken_line_of_json_lines_costs_one_row() -> None:
    rows = read(b'{"prompt": "a\n{"prompt": "b"}\n')
    assert prompts(rows) == ["b"]


def test_an_empty_array_has_no_rows() -> None:
    assert read(b"[]\n") == []


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nprompt;id\nhello;x\n",
        '"sep=,"\r\nprompt,id\r\nhello,x\r\n',
        "prompt\tid\nhello\tx\n",
        "prompt,id\rhello,x\r",
        '\ufeffprompt,id\n"hello",x\n',
    ],
)
def test_csv_as_spreadsheets_write_it(text: str) -> None:
    (row,) = read(text.encode(), "csv")
    assert isinstance(row, Row)
    assert (row.prompt, row.id) == ("hello", "x")


def openai(**body: Any) -> Row | BadRow:
    """The row of a chat request with these fields besides its messages."""
    url = body.pop("url", "/v1/chat/completions")
    messages = [{"role": "user", "content": "hi"}]
    value = {"custom_id": "x", "url": url, "body": {"messages": messages, **body}}
    (row,) = read(json.dumps(value).encode())
    return row


@pytest.mark.parametrize(
    ("field", "value", "sampling"),
    [
        ("reasoning_effort", "low", {}),
        ("verbosity", "low", {}),
        ("modalities", ["text"], {}),
        ("prediction", {"type": "content", "content": "x"}, {}),
        ("audio", None, {}),
        ("web_search_options", None, {}),
        ("stop", "", {}),
        ("stop", [], {"stop": ()}),
        ("seed", -1, {"seed": 2**32 - 2}),
        ("seed", 2**40, {"seed": 2**40 % (2**32 - 1)}),
        ("max_tokens", 5.0, {"max_tokens": 5}),
        ("top_logprobs", 0, {}),
        ("url", "https://api.openai.com/v1/chat/completions/", {}),
    ],
)
def test_harmless_fields_of_openai_are_accepted(
    field: str, value: Any, sampling: dict[str, Any]
) -> None:
    row = openai(**{field: value})
    assert isinstance(row, Row), row
    assert row.sampling == sampling


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("web_search_options", {}),
        ("max_tokens", 5.5),
        ("stream", True),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(field: str, value: Any) -> None:
    row = openai(**{field: value})
    assert isinstance(row, BadRow)
    assert field in str(row.error)


def test_a_refusal_stands_for_the_content_of_an_answer() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    row = openai(messages=[{"role": "user", "content": "hi"}, refused])
    assert isinstance(row, Row)
    assert row.messages is not None
    assert row.messages[1]["content"] == "I cannot help with that."


def test_the_older_names_of_tools_are_read() -> None:
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    row = openai(functions=[function], function_call="auto")
    assert isinstance(row, Row)
    assert row.tools == (function,)
