"""Markdown tables on terminals of any width: no text is cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from l4cli.chat.terminal.markdown import BlockRenderer
from l4cli.columns import shared_out

ADDRESS = "https://example.org/a/long/address/that/must/stay/whole.html"
TABLE = f"""| Name | Where | What it does |
| --- | :-: | --: |
| l4 | {ADDRESS} | It runs Llama 4 models in a terminal and **never** loses a row. |
| other | `code` | short |
"""


def rendered(table: str, width: int) -> list[str]:
    """The lines on the screen, without escape codes."""
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in BlockRenderer().lines(table, width)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120])
def test_nothing_is_cut(width: int) -> None:
    lines = rendered(TABLE, width)
    assert max(map(cell_len, lines)) <= width
    text = "".join("".join(lines).split())
    for words in ("Name", ADDRESS, "never", "code", "short", "other"):
        assert words in text or width > 80  # in a grid, folded cells stand side by side
    assert "…" not in text


def test_an_address_that_fits_is_on_one_line() -> None:
    for width in (64, 80, 100):
        assert any(ADDRESS in line for line in rendered(TABLE, width)), width


def test_a_narrow_terminal_shows_records() -> None:
    assert rendered("| City | Population |\n|-|-|\n| Reykjavík | 139,875 |\n| | 1 |", 18) == [
        "City: Reykjavík", "Population:", "139,875", "", "City:", "Population: 1",
    ]  # fmt: skip


def test_a_wide_terminal_shows_a_grid() -> None:
    lines = rendered("| City | Population |\n|-|-:|\n| Reykjavík | 139,875 |", 40)
    assert lines[0].split() == ["City", "Population"]
    assert lines[-1].split() == ["Reykjavík", "139,875"]


cells = st.text(st.sampled_from("abc 中é.") | st.characters(categories=["L", "N"]), max_size=30)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=4), st.integers(4, 90)
)
def test_every_word_is_shown(rows: list[list[str]], width: int) -> None:
    table = "| one | two | three |\n|-|-|-|\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
    lines = rendered(table, width)
    assert all(cell_len(line) <= width for line in lines)
    shown = sorted("".join("".join(lines).split()).replace("─", "").replace(":", ""))
    for character in set("".join(rows[0])) - {" "}:
        expected = sum("".join(row).count(character) for row in rows)
        assert shown.count(character) >= expected or character.isspace()


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=9),
    st.integers(-5, 300),
)
def test_columns_share_the_room(widths: list[tuple[int, int]], room: int) -> None:
    least, most = [low for low, _ in widths], [low + more for low, more in widths]
    chosen = shared_out(least, most, room)
    if chosen is None:
        assert room < sum(least)
    else:
        assert sum(chosen) <= room
        assert all(low <= got <= high for low, got, high in zip(least, chosen, most, strict=True))
