"""Tools as a person meets them: a model that always calls, a terminal, and functions that fail."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from terminal import CTRL_C, CTRL_D, ENTER, Terminal
from test_chat_support import write_reciter

FUNCTIONS = '''
import time

calls = 0


def f() -> str:
    """Answer, raise, hang."""
    global calls
    calls += 1
    if calls == 1:
        return "the first result"
    if calls == 2:
        raise ValueError("no second one")
    time.sleep(600)
'''
ASKED = r"^run f\(\)\? \[y/N/a\(lways\)\] *$"


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answer to everything is a call."""
    return write_reciter(tmp_path_factory.mktemp("caller"), ends=True, recited="[f()]")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "tools.py"
    path.write_text(FUNCTIONS, "utf-8")
    return path


def test_calls_in_a_conversation(caller: Path, tools: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(caller), "-t", "1", "--ctx", "1k"]
    with Terminal([*command, "--tools", str(tools), "--max-rounds", "2"]) as terminal:
        terminal.wait_for(r"^> *$")

        terminal.type("go" + ENTER)
        terminal.wait_for(ASKED)
        terminal.type("y" + ENTER)
        terminal.wait_for(r"^  → the first result$")
        terminal.wait_for(ASKED)
        terminal.type("n" + ENTER)
        terminal.wait_for(r'→ \{"error": "the user did not allow this call"\}')
        terminal.wait_for(r"in 2 rounds and still calls; --max-rounds\s+allows more")

        # What is typed before the question is no answer to it.
        terminal.type(f"again{ENTER}y{ENTER}")
        terminal.wait_for(ASKED)
        terminal.type("a" + ENTER)
        terminal.wait_for(r"ValueError: no second one\S*\s+\(\S+tools.py, line\s+14\)")
        terminal.wait_for(r"^run f\(\)$")  # without being asked about
        terminal.type(CTRL_C)
        terminal.wait_for(r"\(stopped; the model was not told of any result\)")

        # It is the next message, and the tools have been started anew.
        terminal.wait_for(r"^> y$")
        terminal.wait_until(lambda: terminal.text().count("the first result") == 2, "a new process")
        terminal.wait_until(lambda: terminal.text().count("still calls") == 2, "the last round")
        assert "[f()]" not in terminal.text()
        terminal.wait_for(r"^> *$")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0


def test_one_shot_runs_tools_only_when_told_to(
    l4: Callable[..., Any], caller: Path, tools: Path
) -> None:
    chat = ("chat", "-m", caller, "-t", "1", "--ctx", "1k", "--tools", tools)
    done = l4(*chat, "-p", "go")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "l4: without a terminal to ask on, --tools needs --yes to run what is called\n"
    )
    done = l4(*chat, "-p", "go", "--yes", "--max-rounds", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "run f()",
        "  → the first result",
        "(stopped: the model called functions in 1 rounds and still calls; "
        "--max-rounds allows more)",
    ]


def test_a_file_without_tools_is_one_clear_line(
    l4: Callable[..., Any], caller: Path, tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text("def f(x):\n    'F.'\n", "utf-8")
    done = l4("chat", "-m", caller, "--tools", tmp_path / "tools.py", "-p", "x", "--yes")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"l4: {tmp_path}/tools.py, line 1: f: its parameter 'x' has no type hint\n"
    )
