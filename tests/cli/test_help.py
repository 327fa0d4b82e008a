"""The help of every command: examples that are right, no noise, nothing cut."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from conftest import L4

from l4cli.app import app
from l4cli.commands.examples import examples

ROOT: Any = typer.main.get_command(app)


def commands(command: Any = ROOT, path: str = "l4") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{path} {name}")


PLAIN = [path for path, command in commands() if not hasattr(command, "commands")]


@pytest.mark.parametrize("path", PLAIN)
def test_a_help_ends_in_examples_that_can_be_typed(path: str) -> None:
    lines = examples(path)
    assert 2 <= len(lines) <= 3
    for line in lines:
        assert len(line) <= 76
        words = shlex.split(line.rpartition("| l4")[2] if "| l4" in line else line)
        words = [word for word in words if word != "l4"]
        command: Any = ROOT
        while hasattr(command, "commands"):
            by_itself = getattr(command, "if_none", "")
            name = words.pop(0) if words and words[0] in command.commands else by_itself
            command = command.commands[name]
        for sign in ("|", ">"):
            words = words[: words.index(sign)] if sign in words else words
        command.make_context(path, words)  # raises if an option or argument is wrong


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("path", ["l4", "l4 docs", *PLAIN])
def test_nothing_of_a_help_is_cut(path: str, columns: int, l4_help: Any) -> None:
    text = l4_help(path, columns)
    assert not re.search("<(bool|str)>", text)
    usage = text[text.index("Usage:") :].partition("\n")[0]
    assert not re.search(r"\[\[|[{}]|(\.\.\.\]?){2}", usage)
    assert not re.search(r"\w…", re.sub(r"N,N…|N,…|P,…|NAME,…", "", text))


@pytest.fixture
def l4_help(l4: L4, monkeypatch: pytest.MonkeyPatch) -> Any:
    def ask(path: str, columns: int) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        done = l4(*path.split()[1:], "--help")
        assert done.returncode == 0, done.stderr
        return done.stdout

    return ask
