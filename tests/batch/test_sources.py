"""Splitting lines to records: plain text, and CSV as common tools write it."""

from __future__ import annotations

from typing import Any

import pytest

from l4cli.batch.encoding import TO_UTF8
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.batch.sources import Source
from l4cli.batch.template_row import JinjaRow
from l4cli.errors import InputError, UsageError
from l4cli.prompt.traced import spans_of


def read(data: str | bytes, source: Source, **options: Any) -> list[Row | BadRow]:
    content = data if isinstance(data, bytes) else data.encode()
    return list(read_rows(content.splitlines(keepends=True), source=source, **options))


def prompts(rows: list[Row | BadRow]) -> list[Any]:
    return [row.prompt if isinstance(row, Row) else str(row.error) for row in rows]


def test_each_text_line_is_a_prompt() -> None:
    rows = read('\ufefffirst\r\n\n  {"not": "json"}\nwith \u2028 inside\n'.encode(), "text")
    assert prompts(rows)[0] == "first"
    assert [row.line for row in rows] == [1, 3, 4]
    assert prompts(rows)[1] == '  {"not": "json"}'


def test_a_text_line_that_is_not_utf8_is_one_bad_row() -> None:
    rows = read(b"good\n\xff\xfe\ngood\n", "text")
    assert prompts(rows) == ["good", f"not UTF-8 at byte 1 of the line: {TO_UTF8}", "good"]


def test_csv_columns_are_fields() -> None:
    rows = read('\ufeffid,prompt,max_tokens,stop\na,hi,5,"[""x""]"\n007,yo,,END\n'.encode(), "csv")
    assert isinstance(rows[0], Row)
    assert isinstance(rows[1], Row)
    assert (rows[0].id, rows[0].prompt, rows[0].sampling) == (
        "a",
        "hi",
        {"max_tokens": 5, "stop": ("x",)},
    )
    assert (rows[1].id, rows[1].prompt, rows[1].sampling) == ("007", "yo", {"stop": ("END",)})


def test_csv_cells_hold_line_breaks_quotes_and_commas() -> None:
    rows = read('prompt\r\n"two\nlines, and ""quotes"""\r\n\r\nplain\r\n', "csv")
    assert prompts(rows) == ['two\nlines, and "quotes"', "plain"]
    assert [row.line for row in rows] == [2, 5]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_as_other_spreadsheets_write_it(delimiter: str) -> None:
    rows = read(f"id{delimiter}prompt\n1{delimiter}a, b\n", "csv")
    assert prompts(rows) == ["a, b"]


def test_a_long_csv_cell_is_no_error() -> None:
    (row,) = read("prompt\n" + "x" * 300_000 + "\n", "csv")
    assert isinstance(row, Row)


def test_bad_csv_records_harm_nobody() -> None:
    rows = read(b'id,prompt\n1,a,b\n2,\xff\n3,"x"y\n4,fine\n5\n', "csv")
    assert prompts(rows) == [
        "3 cells where the header has 2 columns",
        f"not UTF-8 in column 'prompt': {TO_UTF8}",
        "not CSV: ',' expected after '\"'",
        "fine",
        "1 cells where the header has 2 columns",
    ]
    assert [row.line for row in rows] == [2, 3, 4, 5, 6]


def test_a_quote_never_closed_is_named_where_it_opens() -> None:
    rows = read('prompt\nok\n"never\nclosed\n', "csv")
    assert prompts(rows)[0] == "ok"
    assert isinstance(rows[1], BadRow)
    assert rows[1].line == 3


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("name,review", "no column 'prompt', only name, review: .*'Summarize: {{ review }}'"),
        ("prompt,label", "column 'label' is not a field of a row"),
        ("prompt,prompt", "column 2 of the CSV header repeats the name 'prompt'"),
        ("prompt,", "column 2 of the CSV header has no name"),
        ("id,seed", "no column 'prompt'"),
    ],
)
def test_a_csv_header_that_makes_no_rows_is_told_once(header: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(f"{header}\na,b\n", "csv")


def test_an_empty_csv_file_has_no_rows() -> None:
    assert read("", "csv") == []
    assert read("prompt\n", "csv") == []


def test_a_template_makes_prompts_from_columns() -> None:
    template = JinjaRow("Translate {{ text }} into {{ language | upper }}.\n")
    rows = read("id,text,language,max_tokens\nx,Hallo,en,7\n", "csv", template=template)
    (row,) = rows
    assert isinstance(row, Row)
    assert (row.id, row.prompt) == ("x", "Translate Hallo into EN.\n")
    assert row.sampling == {"max_tokens": 7}


def test_a_template_makes_prompts_from_json_fields_and_text_lines() -> None:
    template = JinjaRow("{{ a.b[0] }}{% if c is defined %}!{% endif %}")
    line = '{"a": {"b": ["x"]}, "temperature": 0, "whatever": 1}'
    (row,) = read(line, "json", template=template)
    assert isinstance(row, Row)
    assert (row.prompt, row.sampling) == ("x", {"temperature": 0})
    assert prompts(read("hi\n", "text", template=JinjaRow("<{{ prompt }}>"))) == ["<hi>"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ title }}", "'title' is undefined; this row's fields: text"),
        ("{{ text.nothing.x }}", "has no attribute 'nothing'"),
        ("{{ text + 1 }}", "cannot render this row"),
        ("{{ 1 / 0 }}", "cannot render this row"),
        ("{{ text.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_a_template_that_cannot_show_a_row_fails_that_row(template: str, message: str) -> None:
    bad, good = read("text\na\nb\n", "csv", template=JinjaRow(template + "{# #}"))
    for row in (bad, good):
        assert isinstance(row, BadRow)
        assert "--template-row" in str(row.error)
        assert message in str(row.error)


def test_a_template_that_does_not_compile_is_told_once() -> None:
    with pytest.raises(UsageError, match="--template-row does not compile"):
        JinjaRow("{{ text")


LONG = "{% for a in range(99999) %}{% for b in range(99999) %}{{ text }}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if text == 'b' %}" + LONG + "{% endif %}", "it runs for more than 0.1 seconds"),
        ("{{ ('{:>' ~ ('2000000000' if text == 'b' else '1') ~ '}').format(1) }}", "large width"),
        ("{{ text * (2000000000 if text == 'b' else 1) }}", "texts that are too large"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) if text == 'b' }}", "cannot render this"),
    ],
)
def test_a_row_at_which_a_template_never_ends_is_one_bad_row(template: str, message: str) -> None:
    rows = read("text\na\nb\nb\nb\nc\n", "csv", template=JinjaRow(template, seconds=0.1))
    assert [isinstance(row, BadRow) for row in rows] == [False, True, True, True, False]
    assert message in prompts(rows)[1]
    assert "--template-row" in prompts(rows)[1]


def test_a_template_that_ends_at_no_row_is_told_once() -> None:
    with pytest.raises(UsageError, match="--template-row was stopped at each of the first rows"):
        read("text\n" + "a\n" * 9, "csv", template=JinjaRow(LONG, seconds=0.1))


def test_what_a_row_template_writes_is_a_users_text() -> None:
    (row,) = read("text\na\n", "csv", template=JinjaRow("<|eot|>{{ text }}"))
    assert isinstance(row, Row)
    assert (row.prompt, spans_of(row.prompt or "")) == ("<|eot|>a", ())


def test_a_template_may_take_tags_out_and_write_json() -> None:
    template = JinjaRow("{{ html | striptags }} {{ value | tojson }}")
    line = '{"html": "<p>a <!-- > --><b>b</b> &amp; c", "value": {"é": "<"}}'
    assert prompts(read(line, "json", template=template)) == ['a b & c {"é": "<"}']


@pytest.mark.parametrize(
    ("template", "meant"),
    [
        ("review", "did you mean '{{ review }}'?"),
        ("Is it good? {review}", "did you mean 'Is it good? {{ review }}'?"),
        ("Tell me a joke.", "so every row has the same prompt"),
        ("{{ review }}", ""),
        ("{% if a %}x{% endif %}", ""),
    ],
)
def test_a_template_that_uses_no_field_is_doubted(template: str, meant: str) -> None:
    doubt = JinjaRow(template).doubt
    assert doubt.endswith(meant)
    assert bool(doubt) == bool(meant)
