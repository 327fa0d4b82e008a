"""Answers on a terminal are folded at words while they come; see also test_folded.py for notes."""

from __future__ import annotations

import pytest

from l4cli import console
from l4cli.commands import ask_show
from l4cli.console import Folder


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("the pump house has a code", ["the pump", "house has", "a code"]),
        ("one two\n\n  three four", ["one two", "", "  three", "four"]),
        ("ten chars: abcdefghijklmn on", ["ten chars:", "abcdefghijklmn", "on"]),
        ("水泵房的密码是四七", ["水泵房的密", "码是四七"]),
        ("ends with\n", ["ends with", ""]),
    ],
)
def test_a_text_is_folded_at_words_in_whatever_pieces_it_comes(
    text: str, lines: list[str], size: int
) -> None:
    folder = Folder(10)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    shown = "".join(map(folder.feed, pieces)) + folder.flush()
    assert shown.split("\n") == lines


@pytest.mark.parametrize("is_terminal", [True, False])
def test_an_answer_of_ask_is_folded_on_a_terminal_only(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "stdout_is_terminal", lambda: is_terminal)
    monkeypatch.setenv("COLUMNS", "20")
    printer = ask_show._Printer(["What is the code?"])
    for piece in ("The access co", "de of the pump", " house is 4711."):
        printer.write(0, piece)
    printer.end(0, [])
    break_or_space = "\n" if is_terminal else " "
    said = f"The access code of{break_or_space}the pump house is{break_or_space}4711.\n"
    assert capsys.readouterr().out == said
