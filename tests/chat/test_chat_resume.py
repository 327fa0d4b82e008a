"""Sessions in a real terminal: killed, continued, edited and branched."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_support import IDLE, RECITED, RecordingView, is_idle, write_reciter
from terminal import CTRL_C, CTRL_D, CTRL_G, ENTER, TAB, Terminal

from l4cli import load
from l4cli.chat.history.session_file import SessionFile, session_path
from l4cli.chat.session import ChatSession
from l4cli.loading.llm import LLM

Open = Callable[..., Terminal]


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reciter(tmp_path_factory.mktemp("reciter"))


@pytest.fixture
def chat(endless: Path) -> Iterator[Open]:
    """A function that opens a chat in a terminal and waits for its prompt."""
    opened = []

    def open_chat(*args: str, **options: Any) -> Terminal:
        command = [sys.executable, "-m", "l4cli", "chat", "-m", str(endless), "--ctx", "1024"]
        terminal = Terminal([*command, "-t", "1", "-n", "8", *args], **options)
        opened.append(terminal)
        terminal.wait_for(IDLE)
        return terminal

    yield open_chat
    for terminal in opened:
        terminal.__exit__()


def run(terminal: Terminal, line: str, shown: str) -> None:
    """Type a line, and wait for the text `shown` and then the prompt."""
    before = len(terminal.received)
    terminal.type(line + ENTER)
    terminal.wait_for(shown)
    terminal.wait_until(
        lambda: len(terminal.received) > before and is_idle(terminal), "the prompt again"
    )


def sessions(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "xdg-state" / "l4" / "sessions").glob("*.jsonl"))


def said(path: Path) -> list[str]:
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [record["content"] for record in records if "role" in record]


def test_a_session_survives_kill_9_in_mid_answer(chat: Open, tmp_path: Path) -> None:
    """All turns, branches and edits are kept, and the last question; only its answer is lost."""
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "in other words" > "$1"\n', "utf-8")
    editor.chmod(0o755)
    terminal = chat("-n", "8", env={"VISUAL": str(editor), "EDITOR": str(editor)})
    run(terminal, "hello", rf"^> hello\n{RECITED[:8]}")
    run(terminal, "and the world", rf"^> and the world\n{RECITED[:8]}")
    # The text appears in the prompt; Ctrl-G opens it in the editor.
    terminal.type("/edit" + ENTER)
    terminal.wait_for(r"^> and the world$")
    terminal.type(CTRL_G)
    terminal.wait_for("^> in other words$")
    run(terminal, "", rf"^> in other words\n{RECITED[:8]}")
    run(
        terminal, "/tree", r"^  ├ 3 > and the world\n  │ 4 .*\(broken off\)\n\* 5 > in other words$"
    )
    run(terminal, "/goto 4", "^at message 4: the lamp")
    run(terminal, "/set max_tokens default", "^max_tokens .*rest of the context$")
    terminal.type("asked in vain" + ENTER)
    terminal.wait_for(rf"^> asked in vain\n{RECITED}{RECITED}")
    os.kill(terminal.child.pid, signal.SIGKILL)
    assert terminal.exit_code() == -signal.SIGKILL

    (path,) = sessions(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert said(path) == ["hello", RECITED[:8], "and the world", RECITED[:8], "in other words",
                          RECITED[:8], "asked in vain"]  # fmt: skip
    path.write_bytes(path.read_bytes() + b'{"id": 8, "parent": 7, "ro')

    terminal = chat("-c")
    terminal.wait_for(rf"^session {path.stem}: 3 questions, \d+ tokens$")
    terminal.wait_for(r"cut\s+short:\s+26\s+bytes\s+of\s+it\s+are\s+dropped$")
    terminal.wait_for(rf"^{RECITED[:8]}\n> asked in vain$")
    terminal.wait_for(r"^\(this question has no answer yet: /regen answers it")
    run(terminal, "/set max_tokens 8", "^max_tokens .*8$")
    run(terminal, "/regen", rf"^> /regen\n{RECITED[:8]}")
    run(terminal, "/goto 6", "^at message 6: the lamp")
    run(terminal, "/branch 2", "^your next message goes after message 2")
    run(terminal, "a third way", rf"^> a third way\n{RECITED[:8]}")
    terminal.type(CTRL_D)
    terminal.wait_for(rf"^\(kept as {path.stem}; l4 chat -c continues it\)$")
    assert terminal.exit_code() == 0
    assert len(said(path)) == 10


def test_a_closed_terminal_keeps_the_question_and_half_the_answer(
    chat: Open, tmp_path: Path
) -> None:
    terminal = chat("-n", "8000", "--ctx", "9000")  # far more than is shown before it closes
    terminal.type("hello" + ENTER)
    terminal.wait_for(rf"^> hello\n{RECITED}{RECITED}")
    terminal.hang_up()
    (path,) = sessions(tmp_path)
    question, answer = said(path)
    assert question == "hello"
    assert answer.startswith(RECITED * 2)
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [r["finish_reason"] for r in records if r.get("role") == "assistant"] == ["abort"]


def test_alternatives_commands_and_names(chat: Open, endless: Path, tmp_path: Path) -> None:
    terminal = chat("--session", "tales", "-n", "8", env={"SSH_TTY": "/dev/pts/9"})
    run(terminal, "hello", RECITED[:8])
    terminal.type("/alts 3" + ENTER)
    terminal.wait_for("\n".join(f"── answer {n} of 3 ──\n{RECITED[:8]}" for n in (1, 2, 3)))
    terminal.wait_for(r"^Go on from which answer, 1 to 3\? \(Enter alone: 1\) *$")
    run(terminal, "2", r"goes on from answer 2; /goto 3 or /goto 5 takes another")
    run(terminal, "/copy", r"copied to the terminal's clipboard")
    assert base64.b64encode(RECITED[:8].encode()) in terminal.received
    # Ctrl-C cancels a question that l4 asks, and an edit.
    terminal.type("/compact" + ENTER)
    terminal.wait_for(r"leave it\?")
    terminal.type(CTRL_C)
    terminal.wait_for(r"^\(nothing changed\)$")
    terminal.type("/edit" + ENTER)
    terminal.wait_for(r"Enter accepts the edit")
    terminal.type(CTRL_C)
    run(terminal, "", r"nothing changed[^\0]*nothing changed")
    # Another process cannot open the session at the same time.
    second = Terminal(
        [sys.executable, "-m", "l4cli", "chat", "-m", str(endless), "--session", "tales"]
    )
    with second:
        assert second.exit_code() == 2
        assert "the session tales is open in another l4 chat" in second.text()
    run(terminal, "/save renamed", "this session is now named renamed")
    run(terminal, "/sessions", r"^\* renamed +\d{4}-\d\d-\d\d \d\d:\d\d  hello$")
    terminal.type("/load ren" + TAB)
    terminal.wait_for("^> /load renamed$")
    run(terminal, "", "renamed is already the session of this chat")
    run(terminal, "/load nowhere", "there is no session 'nowhere'")
    terminal.type("/exit" + ENTER)
    assert terminal.exit_code() == 0
    assert [path.stem for path in sessions(tmp_path)] == ["renamed"]


def test_what_is_typed_while_the_model_loads_waits_for_the_prompt(
    endless: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(endless), "--ctx", "1024"]
    with Terminal([*command, "-t", "1", "-n", "8"]) as terminal:
        terminal.wait_until(lambda: b"loading" in terminal.received, "loading")
        terminal.type("typed ahead")
        terminal.wait_for(r"^> typed ahead$")
        assert b"typed ahead" not in terminal.received.split(b"Ctrl-D leaves")[0]
        terminal.type(CTRL_C + CTRL_D)
        assert terminal.exit_code() == 0
    assert sessions(tmp_path) == []


def test_each_enter_typed_before_the_prompt_ends_a_message(endless: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "chat", "-m", str(endless), "--ctx", "1024"]
    with Terminal([*command, "-t", "1", "-n", "8", "--no-history"]) as terminal:
        # Python has not started yet: the terminal still collects lines and changes Enter.
        terminal.type(f"/stats{ENTER}hellö{ENTER}and")
        terminal.wait_for(r"^> /stats\nnothing has been computed yet$")
        terminal.wait_for(rf"^> hellö\n{RECITED[:8]}")
        terminal.wait_for(r"^> and$")
        terminal.type(CTRL_C + CTRL_D)
        assert terminal.exit_code() == 0


def test_what_was_computed_in_one_process_is_not_in_the_next(endless: Path) -> None:
    """The KV cache is restored with a session, and kept when more answers share the context."""

    def resumed(llm: LLM) -> ChatSession:
        file = SessionFile(session_path("talk"))
        return ChatSession(llm, RecordingView, sampling={"max_tokens": 40}, file=file)

    with load(endless, ctx=2048, threads=1, store=True) as llm:
        session = resumed(llm)
        session.ask("hello and the world " * 10)
        answer = session.ask("and more")
        held = answer.num_prompt_tokens + len(answer.token_ids) - 1
        session.close()
    with load(endless, ctx=2048, threads=1, store=True) as llm:
        session = resumed(llm)
        answer = session.ask("more still")
        assert answer.num_cached_tokens == held
        begun: list[int] = []
        ids = session.alternatives(3, begun.append)
        assert begun == [0, 1, 2]
        assert len(ids) == 3
        assert llm.engine.backend.n_seq_max == 3
        assert session.last is not None
        assert session.last.num_cached_tokens == session.last.num_prompt_tokens - 1
        session.become(session.tree.at(ids[2]))
        answer = session.ask("on from the third")
        third = session.tree.nodes[ids[2]].message
        assert answer.num_cached_tokens >= held + len(third.token_ids)
        session.close()
