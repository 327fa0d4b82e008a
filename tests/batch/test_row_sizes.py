"""Rows and lines of any size: what is too large is refused before it takes memory."""

from __future__ import annotations

import io
import json
from typing import BinaryIO

import pytest

from l4cli.batch import lines
from l4cli.batch.json_values import split_values
from l4cli.batch.lines import MAX_ROW, lines_of
from l4cli.batch.rows import BadRow, Row, read_rows
from l4cli.batch.sources import Source
from l4cli.errors import InputError

SMALL = {"json": '{"prompt": "small"}\n', "text": "small\n", "csv": "small\n"}
LARGE = {
    "json": '{"prompt": "x", "stop": [' + "[]," * (MAX_ROW // 3) + "[]]}\n",
    "text": "x" * (MAX_ROW + 1) + "\n",
    "csv": '"' + ('a ""quoted"" line' + " and more" * 100 + "\n") * (MAX_ROW // 900) + '"\n',
}


@pytest.mark.parametrize("source", ["json", "text", "csv"])
def test_a_row_that_is_too_large_is_an_error_row(source: Source) -> None:
    header = "prompt\n" if source == "csv" else ""
    text = header + SMALL[source] + LARGE[source] + SMALL[source]
    first, large, last = read_rows(io.BytesIO(text.encode()), source=source)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert (first.prompt, last.prompt) == ("small", "small")
    assert isinstance(large, BadRow)
    assert str(large.error).endswith("put its text into a file and name that in `document`")


def test_a_line_without_an_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        def readline(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert size > 0
            return b"\0" * size

    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    endless: BinaryIO = Endless()  # type: ignore[assignment]
    with pytest.raises(InputError, match="line 1 is larger than"):
        list(lines_of(endless))


def test_arrays_are_split_in_a_time_that_grows_with_their_length() -> None:
    rows = [{"prompt": f"p{index}"} for index in range(20_000)]
    assert len(list(split_values([json.dumps(rows).encode()]))) == 20_000
    deep = [{"prompt": "x", "of": [{"a": {"b": [index, {}]}} for index in range(5_000)]}] * 2
    pretty = json.dumps(deep, indent=1).encode().splitlines(keepends=True)
    assert [json.loads(value.content) for value in split_values(pretty)] == deep
