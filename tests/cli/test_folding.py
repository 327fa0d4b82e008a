"""Answers of `l4 ask` on a terminal: drawn as Markdown, or folded at words while they come.

See also test_folded.py for notes.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import pyte
import pytest

from l4cli import console
from l4cli.chat.terminal.render import view_for_stdout
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
def test_an_answer_of_ask_is_folded_on_a_dumb_terminal_only(
    is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "stdout_is_terminal", lambda: is_terminal)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "dumb")
    printer = ask_show._Printer(["What is the code?"])
    for piece in ("The access co", "de of the pump", " house is 4711."):
        printer.write(0, piece)
    printer.end(0, [])
    break_or_space = "\n" if is_terminal else " "
    said = f"The access code of{break_or_space}the pump house is{break_or_space}4711.\n"
    assert capsys.readouterr().out == said


MARKDOWN = """It has **two** parts:

| part | file |
| --- | --- |
| pump | `pump.md` |

# End
"""


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(write: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The screen after `write` has written to stdout, a terminal that understands escape codes."""
    out = FakeTerminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    write()
    screen = pyte.Screen(80, 40)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display]


def test_an_answer_of_ask_is_drawn_as_in_a_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*questions: str, markdown: bool = True) -> None:
        printer = ask_show._Printer(questions, markdown=markdown)
        for index in range(len(questions)):
            for line in MARKDOWN.splitlines(keepends=True):
                printer.write(index, line)
            printer.end(index, [])

    def chat() -> None:
        view = view_for_stdout(markdown=True)("")
        view.write(MARKDOWN)
        view.close()

    with monkeypatch.context() as patched:
        shown = drawn(lambda: ask("Parts?"), patched)
        assert shown == drawn(chat, patched)
        assert shown[0] == "It has two parts:"
        several = drawn(lambda: ask("Parts?", "And then?"), patched)
        assert several[0] == "Parts?"
        assert several[several.index("And then?") - 1] == ""
        assert "**" not in "\n".join(several)
        assert "**two**" in "\n".join(drawn(lambda: ask("Parts?", markdown=False), patched))
    ask("Parts?")
    assert capsys.readouterr().out == MARKDOWN
