"""`l4 sessions` over conversations that the real command has made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from chat_support import Chat
from conftest import L4
from terminal import ENTER, Terminal

from l4cli.chat.history.conversation import Conversation, Message
from l4cli.chat.history.markdown import as_markdown
from l4cli.chat.history.session_file import SessionFile, session_path
from l4cli.prompt.tool_calls import ToolCall


@pytest.fixture
def talks(l4: L4, tiny_gguf: Path) -> None:
    """Two sessions; the second was used last."""
    for name, question in (("first", "What is GGUF?"), ("second", "| Ümläute? |")):
        done = l4("chat", "-m", tiny_gguf, "--session", name, "-n", "3", stdin=question)
        assert done.returncode == 0


@pytest.mark.usefixtures("talks")
def test_sessions_are_listed_shown_and_found(l4: L4) -> None:
    lines = l4("sessions").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SESSION", "second", "first"]
    assert "What is GGUF?" in lines[2]
    assert l4("sessions", "ls").stdout == l4("sessions", "list").stdout
    assert [s["name"] for s in json.loads(l4("sessions", "list", "--json").stdout)] == [
        "second", "first",
    ]  # fmt: skip

    shown = l4("sessions", "show", "first").stdout
    assert shown.startswith("# What is GGUF?\n\n## You\n\nWhat is GGUF?\n\n## Model\n\n")
    assert "Ümläute" in l4("sessions", "show").stdout  # the one used last

    found = l4("sessions", "search", "ÜMLÄUTE")
    assert found.returncode == 0
    assert found.stdout.splitlines()[1].split()[:3] == ["second", "1", "user"]
    nothing = l4("sessions", "search", "xyzzy")
    assert (nothing.returncode, nothing.stdout) == (1, "")


@pytest.mark.usefixtures("talks")
def test_an_export_never_replaces_a_file_unasked(l4: L4, tmp_path: Path) -> None:
    path = tmp_path / "first.md"
    assert l4("sessions", "export", "first", cwd=tmp_path).returncode == 0
    assert path.read_text("utf-8") == l4("sessions", "show", "first").stdout
    path.write_text("mine")
    refused = l4("sessions", "export", "first", cwd=tmp_path)
    assert refused.returncode == 2
    assert "first.md exists" in refused.stderr
    assert path.read_text() == "mine"
    assert l4("sessions", "export", "first", "--overwrite", cwd=tmp_path).returncode == 0

    odd = l4("sessions", "export", "first", "-o", tmp_path / "first.pdf")
    assert odd.returncode == 2
    assert "cannot be written as .pdf: .md is Markdown" in odd.stderr
    assert not (tmp_path / "first.pdf").exists()

    rows = tmp_path / "first.jsonl"
    assert l4("sessions", "export", "first", "-o", rows).returncode == 0
    assert [json.loads(line)["role"] for line in rows.read_text().splitlines()] == [
        "user", "assistant",
    ]  # fmt: skip


def test_an_export_tells_how_much_of_the_tree_it_leaves_out(l4: L4, tmp_path: Path) -> None:
    chat = Chat(file=SessionFile(session_path("talk")))
    chat.session.ask("one")
    chat.session.ask("two")
    chat.run("/branch 2")
    chat.session.ask("three")
    chat.session.close()
    done = l4("sessions", "export", "talk", cwd=tmp_path)
    assert done.stderr == "talk.md: 4 messages; 2 messages of other branches left out\n"


@pytest.mark.usefixtures("talks")
def test_a_terminal_is_asked_before_a_session_is_removed(l4: L4) -> None:
    with Terminal([sys.executable, "-m", "l4cli", "sessions", "rm", "first"]) as terminal:
        terminal.wait_for(r"^Remove first\? \[y/N\]:")
        terminal.type(ENTER)
        # On a slow machine, Enter is echoed before the blank that ends the question.
        terminal.wait_for("^ ?nothing was removed$")
        assert terminal.exit_code() == 0
    assert "first" in l4("sessions").stdout


@pytest.mark.usefixtures("talks")
def test_all_are_removed_or_none(l4: L4) -> None:
    refused = l4("sessions", "rm", "first", "frist")
    assert refused.returncode == 2
    assert "did you mean first?" in refused.stderr
    unasked = l4("sessions", "rm", "first")
    assert unasked.returncode == 2
    assert "no terminal to confirm on; give --yes" in unasked.stderr
    assert "first" in l4("sessions").stdout
    assert l4("sessions", "rm", "first", "second", "--yes").returncode == 0
    empty = l4("sessions")
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no sessions yet" in empty.stderr
    assert l4("sessions", "show").returncode == 2


def test_markdown_shows_calls_results_and_halves() -> None:
    conversation = Conversation(system="Be brief.").extended(
        Message("user", "Weather in Oslo?"),
        Message("assistant", "", tool_calls=(ToolCall("weather", {"city": "Oslo"}),)),
        Message("ipython", "```\nrain\n```"),
        Message("assistant", "It rai", finish_reason="abort"),
    )
    assert as_markdown(conversation) == (
        "# Weather in Oslo?\n\n## System\n\nBe brief.\n\n## You\n\nWeather in Oslo?\n\n"
        '## Model\n\n```\nweather({"city": "Oslo"})\n```\n\n'
        "## Tool\n\n````\n```\nrain\n```\n````\n\n## Model\n\nIt rai\n\n*(incomplete)*\n"
    )
