"""The chat in odd terminals: 20 columns, the C locale, TERM=dumb, resized during an answer."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from chat_support import RECITED, write_reciter
from terminal import CTRL_C, CTRL_D, CTRL_J, ENTER, Terminal, paste


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reciter(tmp_path_factory.mktemp("reciter"))


def command(model: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "l4cli", "chat", "-m", str(model), "-t", "1", *args]


def is_idle(terminal: Terminal) -> bool:
    """Whether the last line is the bar, or the part of it that fits."""
    lines = terminal.lines()
    return bool(lines and re.search(r"^(endless · )?\d[\d,]*(/| of )[\d,]+( tokens)?$", lines[-1]))


def test_twenty_columns_in_the_c_locale_and_a_resize(endless: Path) -> None:
    locale = {"LC_ALL": "C", "LANG": "", "PYTHONCOERCECLOCALE": "0"}
    with Terminal(command(endless, "--ctx", "32k"), columns=20, env=locale) as terminal:
        terminal.wait_for(r"^> *$")
        terminal.wait_until(lambda: is_idle(terminal), "a bar that fits")
        assert terminal.lines()[:2] == ["endless · context of", "32k tokens · /help"]

        terminal.type("größe" + CTRL_J + paste("中文\nnext"))
        # pyte adds a blank after a wide character.
        terminal.wait_for(r"^> größe\n  中 ?文 ?\n  next$")
        terminal.type(ENTER)
        terminal.wait_for("^lampékings-of")
        terminal.resize(60, 24)
        terminal.wait_until(
            lambda: any(len(line) > 20 for line in terminal.lines()), "lines of the new width"
        )
        terminal.resize(20, 24)
        terminal.type(CTRL_C)
        terminal.wait_for(r"\(stopped; /continue\s+goes on\)")
        terminal.wait_until(lambda: is_idle(terminal), "the prompt")

        terminal.type("/undo" + ENTER)
        terminal.wait_for(r"^taken back: größe")
        terminal.type("/nonsense" + ENTER)
        terminal.wait_for(r"^l4: no\s+command")
        terminal.wait_until(lambda: is_idle(terminal), "the prompt")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0


def test_a_dumb_terminal_shows_plain_lines_and_each_once(endless: Path) -> None:
    with Terminal(command(endless, "--ctx", "1k", "-n", "17"), env={"TERM": "dumb"}) as terminal:
        terminal.wait_for(r"^> *$")
        terminal.type("hello" + CTRL_C)
        terminal.wait_for(r"^\(Ctrl-D leaves, /help helps\)\n> *$")
        terminal.type("hello" + ENTER)
        terminal.wait_for("cut off at max_tokens.*\n\n> *$")
        terminal.type('"""two' + ENTER)
        terminal.wait_until(
            lambda: terminal.lines()[-1] == '> """two' and terminal.screen.cursor.x == 2,
            "a place for the second line",
        )
        terminal.type('lines"""' + ENTER)
        terminal.wait_until(
            lambda: (
                terminal.text().count("cut off at max_tokens") == 2 and terminal.lines()[-1] == ">"
            ),
            "a second answer",
        )
        terminal.type("/edit" + ENTER)
        terminal.wait_for(r"^two\nlines\nthe new text \(Enter alone leaves it as it is\): *$")
        terminal.type(ENTER)
        terminal.wait_for(r"^\(nothing changed\)\n> *$")
        terminal.type("/exit" + ENTER)
        assert terminal.exit_code() == 0
    lines = terminal.text().splitlines()
    start = lines.index("> hello")
    assert lines[start : start + 7] == [
        "> hello",
        RECITED[:16],
        "(cut off at max_tokens; /continue goes on)",
        "",
        '> """two',
        '  lines"""',
        RECITED[:16],
    ]
    assert b"\x1b" not in terminal.received
