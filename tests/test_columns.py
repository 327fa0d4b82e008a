"""Texts and rows in a narrow terminal: what is folded, and where."""

from __future__ import annotations

import pytest

from l4cli.columns import fold, record


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("it has 19.9 MiB", ["it has", "19.9 MiB"]),
        ("in (8,192 tokens) per layer", ["in", "(8,192 tokens)", "per layer"]),
        ("16, 1 used", ["16, 1 used"]),
        ("a /very/long/path.gguf", ["a", "/very/long/path.gguf"]),
        ("", [""]),
    ],
)
def test_a_number_stays_with_its_unit_and_a_word_stays_whole(text: str, lines: list[str]) -> None:
    assert fold(text, 14, len) == lines


def test_lines_hang_behind_a_label_where_there_is_room() -> None:
    assert fold("one two three", 16, len, first="label  ", rest=" " * 7) == [
        "label  one two",
        "       three",
    ]
    assert fold("one incomprehensible", 18, len, first="label  ", rest=" " * 7) == [
        "label  one",
        "  incomprehensible",
    ]


def test_a_record_has_its_values_below_each_other() -> None:
    lines = record(["NAME", "SIZE", ""], ["demo", "19.9 MiB", "small and fast"], 16, len)
    assert lines == [
        ("NAME", "  demo"),
        ("SIZE", "  19.9 MiB"),
        ("", "      small and"),
        ("", "      fast"),
    ]


def test_an_empty_cell_without_a_heading_is_no_line() -> None:
    assert record(["TYPE", ""], ["Q8_0", ""], 20, len) == [("TYPE", "  Q8_0")]
