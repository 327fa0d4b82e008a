"""Tools in a terminal, with a model that always calls, and functions that fail."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_support import RecordingView, write_reciter
from terminal import CTRL_C, CTRL_D, ENTER, Terminal

from l4cli.chat.session import ChatSession
from l4cli.chat.tools.rounds import ToolRounds
from l4cli.chat.tools.toolbox import Toolbox
from l4cli.loading.load import load

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
ASKED = r"^run f\(\)\? \[y/N/a\] \(a: always for f in this chat\) *$"


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answer to everything is a call."""
    return write_reciter(tmp_path_factory.mktemp("caller"), ends=True, recited="[f()]")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    path = tmp_path / "tools.py"
    path.write_text(FUNCTIONS, "utf-8")
    return path


def test_a_dumb_terminal_is_asked_in_plain_lines(caller: Path, tools: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(caller), "-t", "1", "--ctx", "1k"]
    command += ["--tools", str(tools), "--max-rounds", "2"]
    with Terminal(command, env={"TERM": "dumb"}) as terminal:
        terminal.wait_for(r"^> *$")
        terminal.type("go" + ENTER)
        terminal.wait_for(ASKED)
        terminal.type("y" + ENTER)
        terminal.wait_for(r"^  → the first result$\n" + ASKED[1:])
        terminal.type(CTRL_C)
        terminal.wait_for(r"in 2 rounds and still calls; --max-rounds\s+allows more")
        terminal.wait_for(r"\n> *$")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
        lines = terminal.text().splitlines()
    assert lines[lines.index("> go") + 1].startswith("run f()?")


def test_calls_in_a_conversation(caller: Path, tools: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(caller), "-t", "1", "--ctx", "1k"]
    with Terminal([*command, "--tools", str(tools), "--max-rounds", "2"]) as terminal:
        terminal.wait_for(r"^> *$")
        terminal.wait_for(r"^functions: f\s+\(")

        terminal.type("go" + ENTER)
        terminal.wait_for(ASKED)
        terminal.type("maybe" + ENTER)
        terminal.wait_for(r"^\(please answer y, n or a\)$")
        terminal.wait_for(ASKED)
        terminal.type("y" + ENTER)
        terminal.wait_for(r"^  → the first result$")
        terminal.wait_for(ASKED)
        terminal.type("n" + ENTER)
        terminal.wait_for(r"^  → f was not run: you refused it, and the model is told so$")
        terminal.wait_for(r"in 2 rounds and still calls; --max-rounds\s+allows more")

        terminal.type("/tools" + ENTER)
        terminal.wait_for(r"^f\(\): Answer, raise, hang\.$")

        # Keys that were typed before the question do not answer it.
        terminal.type(f"again{ENTER}y{ENTER}")
        terminal.wait_for(ASKED)
        terminal.type("a" + ENTER)
        error = r'"ValueError:nosecondone"\}\(\S+tools.py,line14\)'
        terminal.wait_until(  # wherever the path made the line break
            lambda: re.search(error, "".join(terminal.text().split())), "the error and its place"
        )
        terminal.wait_for(r"^run f\(\)$")  # without a question
        terminal.type(CTRL_C)
        terminal.wait_for(r"\(stopped; the model was not told of any result\)")

        # The early "y" is the next message, and the tools run in a new process.
        terminal.wait_for(r"^> y$")
        terminal.wait_until(lambda: terminal.text().count("the first result") == 2, "a new process")
        terminal.wait_until(lambda: terminal.text().count("still calls") == 2, "the last round")
        assert "[f()]" not in terminal.text()
        terminal.wait_for(r"^> *$")
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0


def test_a_round_computes_only_its_results_and_all_is_kept(
    caller: Path, tools: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    with load(caller, ctx=1024, threads=1) as llm, Toolbox(tools) as toolbox:
        rounds = ToolRounds(toolbox, None, notes.append, max_rounds=2)
        session = ChatSession(llm, RecordingView, rounds=rounds)
        answer = session.ask("go")
        assert answer.num_prompt_tokens > 200
        result = llm.vocabulary.tokenize('{"error": "ValueError: no second one"}')
        # the <|eot|> that ended the call, two headers, the result and its <|eot|>
        assert answer.num_prompt_tokens - answer.num_cached_tokens < len(result) + 30
        messages = session.conversation.messages
        assert [m.role for m in messages] == ["user", *["assistant", "ipython"] * 2, "assistant"]
        assert messages[2].content == "the first result"
        session.save(tmp_path / "talk")
        session.load(tmp_path / "talk")
        assert [m.role for m in session.conversation.messages] == [m.role for m in messages]


def test_one_shot_runs_tools_only_when_told_to(
    l4: Callable[..., Any], caller: Path, tools: Path
) -> None:
    chat = ("chat", "-m", caller, "-t", "1", "--ctx", "1k", "--tools", tools)
    done = l4(*chat, "-p", "go")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "l4: without a terminal, --tools cannot ask before a call: --yes runs calls unasked\n"
    )
    done = l4(*chat, "-p", "go", "--yes", "--max-rounds", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "run f()",
        "  → the first result",
        "(stopped: the model called functions in 1 round and still calls; "
        "--max-rounds allows more)",
    ]
