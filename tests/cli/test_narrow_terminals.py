"""In a narrow terminal every word of a command's output is there, and none is divided."""

from __future__ import annotations

import sys

import pytest
from conftest import L4
from terminal import Terminal

from l4cli import console

COMMANDS = {
    "models": ["models"],
    "info": ["info", "demo"],
    "plan": ["plan", "scout:Q4_K_M", "--ram", "64G@100"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [40, 60])
def test_no_word_is_divided(l4: L4, name: str, columns: int) -> None:
    piped = l4(*COMMANDS[name])
    assert piped.returncode == 0, piped.stderr
    with Terminal([sys.executable, "-m", "l4cli", *COMMANDS[name]], columns=columns) as terminal:
        assert terminal.exit_code() == 0
        shown = terminal.text()
    words = {word for word in piped.stdout.split() if len(word) < columns - 20}
    assert words - {word for part in shown.split() for word in (part, part.rstrip(":"))} == set()
    assert max(map(len, shown.splitlines())) <= columns


def test_a_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["NAME", "SIZE"], [["a" * 300, "388.41 kB"], ["水泵", "1 B"]])
    head, first, second = capsys.readouterr().out.splitlines()
    assert first == "a" * 300 + "  388.41 kB"
    assert head.index("SIZE") == 302
    assert second == "水泵" + " " * 296 + "  1 B"
