"""The chat in a pseudo-terminal, with a real model."""

from __future__ import annotations

import os
import re
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chat_support import RECITED, is_idle, write_reciter
from terminal import (
    ALT_ENTER,
    CTRL_C,
    CTRL_D,
    CTRL_G,
    CTRL_J,
    CTRL_U,
    ENTER,
    ESCAPE,
    TAB,
    UP,
    Terminal,
    paste,
)

Open = Callable[..., Terminal]


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reciter(tmp_path_factory.mktemp("reciter"))


@pytest.fixture
def chat(endless: Path) -> Iterator[Open]:
    """A function that opens a chat in a terminal and waits for its prompt."""
    opened = []

    def open_chat(*args: str, ctx: str = "1024", **options: object) -> Terminal:
        command = [sys.executable, "-m", "l4cli", "chat", "-m", str(endless)]
        terminal = Terminal([*command, "--ctx", ctx, "-t", "1", *args], **options)  # type: ignore[arg-type]
        opened.append(terminal)
        terminal.wait_for(r"^> *$")
        terminal.wait_for(r"^endless · \d+ of ")
        return terminal

    yield open_chat
    for terminal in opened:
        terminal.__exit__()


def ask(terminal: Terminal, text: str, answers: int = 1) -> None:
    """Send a message and wait for the prompt after its answer."""
    terminal.type(text + ENTER)
    at_prompt(terminal, answers)


def at_prompt(terminal: Terminal, answers: int) -> None:
    """Wait until this many answers were cut off by -n, and the prompt is there again."""
    terminal.wait_until(
        lambda: terminal.text().count("/continue goes on") == answers and is_idle(terminal),
        f"{answers} answers and a prompt",
    )


def test_a_conversation(chat: Open) -> None:
    terminal = chat("-n", "8")
    assert "0 of 1,024 tokens" in terminal.lines()[-1]
    ask(terminal, "hello")
    ask(terminal, "and again", 2)
    assert re.search(r"endless · \d\d of 1,024 tokens · [\d.]+ tokens/s", terminal.lines()[-1])
    assert terminal.lines()[1:4] == [
        "> hello",
        RECITED[:8],
        "(cut off at max_tokens; /continue goes on)",
    ]
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


def test_ctrl_c_stops_an_answer_and_keeps_it(chat: Open) -> None:
    terminal = chat(ctx="64k")
    terminal.type("hello" + ENTER)
    terminal.wait_for(RECITED)
    pressed = time.monotonic()
    terminal.type(CTRL_C)
    terminal.wait_for(r"\(stopped; /continue goes on\)", timeout=10)
    # It takes hundredths of a second, but tests also run on busy machines.
    assert time.monotonic() - pressed < 2
    terminal.wait_until(lambda: is_idle(terminal), "prompt")
    terminal.type("/tokens" + ENTER)
    terminal.wait_for(r"\d assistant: the lampé|\d  assistant: the lampé")


def test_ctrl_c_stops_the_reading_of_a_prompt(chat: Open, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("The llama and the world is there. " * 4000, "utf-8")
    terminal = chat(ctx="128k", cwd=tmp_path)
    terminal.type("/file long.txt" + ENTER)
    terminal.wait_for(r"^long.txt: 56,000 tokens; it goes before your next message$")
    terminal.type("what?" + ENTER)
    terminal.wait_for(r"reading the prompt: [1-9],?\d* of")
    pressed = time.monotonic()
    terminal.type(CTRL_C * 3)  # an impatient person
    terminal.wait_for("stopped before the answer began; nothing was added", timeout=10)
    assert time.monotonic() - pressed < 2
    terminal.wait_until(lambda: is_idle(terminal), "prompt")
    assert "0 of 131,072 tokens · 1 file attached" in terminal.lines()[-1]
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


def test_ctrl_c_at_the_prompt_clears_it_and_gives_a_hint(chat: Open) -> None:
    terminal = chat()
    terminal.type("half a thou")
    terminal.wait_for("^> half a thou$")
    terminal.type(CTRL_C)
    terminal.wait_for(r"^>$")
    terminal.type(CTRL_C)
    terminal.wait_for("Ctrl-D leaves, /help helps$")
    terminal.type("x")
    terminal.wait_until(lambda: "helps" not in terminal.lines()[-1], "bar without hint")


def test_sigterm_ends_the_chat_with_143(chat: Open) -> None:
    terminal = chat()
    os.kill(terminal.child.pid, signal.SIGTERM)
    assert terminal.exit_code() == 143
    assert terminal.received.rstrip().rfind(b"\x1b[?2004l") > terminal.received.rfind(
        b"\x1b[?2004h"
    )


def test_many_lines_by_key_by_paste_and_by_quotes(chat: Open) -> None:
    terminal = chat("-n", "1")
    terminal.type(f"one{CTRL_J}two{ALT_ENTER}three")
    terminal.wait_for(r"^> one\n  two\n  three$")
    ask(terminal, "")
    terminal.type(paste("four\nfive\n"))
    terminal.wait_for(r"^> four\n  five$")
    ask(terminal, "", 2)
    terminal.type(f'"""six{ENTER}seven{ENTER}')
    terminal.wait_for(r'^> """six\n  seven$')
    ask(terminal, '"""', 3)
    terminal.type("/tokens" + ENTER)
    for text in ("one two three", "four five", "six seven"):
        terminal.wait_for(rf"user: {text}$")


def test_editor(chat: Open, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "from\\nthe editor" > "$1"\n', "utf-8")
    editor.chmod(0o755)
    terminal = chat("-n", "1", env={"VISUAL": str(editor), "EDITOR": str(editor)})
    terminal.type(CTRL_G)
    terminal.wait_for(r"^> from\n  the editor$")


def test_completion_of_commands_settings_and_paths(chat: Open, tmp_path: Path) -> None:
    (tmp_path / "a-rather-long-name.txt").write_text("text", "utf-8")
    terminal = chat(cwd=tmp_path)
    terminal.type("/fi" + TAB)
    terminal.wait_for("^> /file$")
    terminal.type(" a-ra" + TAB)
    terminal.wait_for(r"^> /file a-rather-long-name\.txt$")
    terminal.type(CTRL_C + "/set temp" + TAB)
    terminal.wait_for("^> /set temperature$")


def test_commands_are_never_sent(chat: Open) -> None:
    terminal = chat()
    terminal.type("/hepl" + ENTER)
    terminal.wait_for("no command /hepl; did you mean /help")
    terminal.type("/regen" + ENTER)
    terminal.wait_for("nothing has been asked yet")
    terminal.type("/tokens" + ENTER)
    terminal.wait_for(r"0  of 1,024")
    terminal.type("/exit" + ENTER)
    assert terminal.exit_code() == 0


def test_undo_and_regen(chat: Open) -> None:
    terminal = chat("-n", "4", "--system", "Be brief.")
    ask(terminal, "hello")
    (used,) = re.findall(r"\d+ of 1,024 tokens", terminal.lines()[-1])
    ask(terminal, "once more", 2)
    ask(terminal, "/regen", 3)
    terminal.type("/undo" + ENTER)
    terminal.wait_for("^taken back: once more$")
    terminal.wait_until(lambda: is_idle(terminal) and used in terminal.lines()[-1], used)


def test_a_turn_that_does_not_fit_is_refused_with_the_choices(chat: Open) -> None:
    terminal = chat("-n", "4", ctx="512")
    ask(terminal, "hello")
    terminal.type(paste("x" * 600) + ENTER)
    terminal.wait_for(r"needs \d+ tokens and room for an answer, the\s+context holds 512")
    terminal.wait_until(lambda: is_idle(terminal), "prompt")
    ask(terminal, "fits", 2)
    assert " of 512 tokens" in terminal.lines()[-1]


def test_what_is_typed_during_an_answer_waits_for_the_prompt(chat: Open) -> None:
    terminal = chat("-n", "200")
    terminal.type("hello" + ENTER)
    terminal.wait_for(RECITED)
    terminal.type("next question")
    at_prompt(terminal, 1)
    terminal.wait_for("^> next question$")
    assert "next question" not in "\n".join(terminal.text().split("\n> ")[:-1])


def test_resize_and_a_tiny_terminal(chat: Open) -> None:
    terminal = chat("-n", "60", columns=100)
    terminal.type("hello" + ENTER)
    terminal.wait_for(RECITED[:8])
    terminal.resize(20, 24)
    terminal.wait_for(r"^\d+ of 1,024 tokens$|^\d+/1024")
    terminal.resize(80, 24)
    terminal.wait_for(r"^endless · \d+ of 1,024 tokens")


def test_history_is_remembered_for_its_owner_only(chat: Open, tmp_path: Path) -> None:
    terminal = chat("-n", "1")
    ask(terminal, "a memorable question")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0
    path = tmp_path / "xdg-state" / "l4" / "chat_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    terminal = chat()
    terminal.type(UP)
    terminal.wait_for("^> a memorable question$")
    terminal = chat("--no-history")
    terminal.type(UP + "nothing")
    terminal.wait_for("^> nothing$")


def test_a_history_that_cannot_be_written_is_said(chat: Open, tmp_path: Path) -> None:
    (tmp_path / "xdg-state").write_text("a file in the way", "utf-8")
    terminal = chat()
    assert "will not be remembered" in terminal.text().replace("\n", " ")


def test_one_question_in_a_terminal(endless: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(endless), "-t", "1", "--ctx", "512"]
    with Terminal([*command, "-p", "hi", "-n", "8"]) as terminal:
        assert terminal.exit_code() == 0
        assert RECITED[:8] in terminal.lines()


@pytest.mark.parametrize("word", ["exit", "/bye", "/quit"])
def test_words_that_leave(chat: Open, word: str) -> None:
    terminal = chat("--no-history")
    terminal.type(word + ENTER)
    assert terminal.exit_code() == 0


def test_an_edit_can_be_left_and_a_command_is_not_taken_for_the_text(chat: Open) -> None:
    terminal = chat("-n", "4", "--no-history")
    ask(terminal, "hello")
    for number, key in enumerate((CTRL_C, ESCAPE), 1):
        terminal.type("/edit" + ENTER)
        terminal.wait_for(r"Enter accepts the edit, Ctrl-C or Esc cancels it")
        terminal.type(key)
        cancelled(terminal, number)
    terminal.type("/edit" + ENTER)
    terminal.wait_for(r"Enter accepts the edit")
    terminal.type(CTRL_U + "/tree" + ENTER)
    terminal.wait_for(r"Is /tree the new text of the message\? \[y/N\] *$")
    terminal.type("n" + ENTER)
    cancelled(terminal, 3)


def cancelled(terminal: Terminal, times: int) -> None:
    """Wait until edits were cancelled this many times, and the prompt is there again."""
    terminal.wait_until(
        lambda: terminal.text().count("(nothing changed)") == times and is_idle(terminal),
        "the prompt",
    )
