"""What a session file holds at every moment: the question before its answer, and half answers."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_support import Chat, RecordingView, fake_llm
from damage import damaged, seeds

from l4cli.chat.history.session_file import SessionFile
from l4cli.console import ReaderGoneError
from l4cli.errors import ContextOverflowError, InputError, OutputError, UsageError


def opened(path: Path, answer: Callable[[str], str] | None = None, **sizes: Any) -> Chat:
    return Chat(fake_llm(answer, **sizes), file=SessionFile(path))


def said(path: Path) -> list[str]:
    """The messages in the file that the conversation ends with, as another chat reads them."""
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(path.read_bytes())
    chat = opened(copy)
    assert chat.session.losses == ()
    chat.session.close()
    return chat.contents


def test_the_question_is_on_the_disk_before_its_answer_begins(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    seen: list[list[str]] = []

    def answer(question: str) -> str:
        seen.append(said(path))
        return "yes"

    chat = opened(path, answer)
    chat.session.ask("really?")
    chat.session.ask("and now?")
    chat.session.edit(3, "and then?")
    assert seen[0] == ["really?"]
    assert ["really?", "yes", "and now?"] in seen
    assert seen[-1] == ["really?", "yes", "and then?"]
    assert said(path) == ["really?", "yes", "and then?", "yes"]


def test_a_question_without_an_answer_is_answered_later(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    unanswered(path)
    again = opened(path)
    assert again.contents == ["really?", "REALLY?", "and now?"]
    again.session.regenerate()
    assert again.contents == ["really?", "REALLY?", "and now?", "AND NOW?"]
    again.session.close()


def test_another_question_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    unanswered(path)
    again = opened(path)
    again.session.ask("or then?")
    assert again.contents == ["really?", "REALLY?", "or then?", "OR THEN?"]
    assert again.session.tree.node(3).message.content == "and now?"  # /tree still shows it
    assert said(path) == again.contents


def unanswered(path: Path) -> None:
    """Write a session that was killed while its second question was answered."""
    chat = opened(path)
    chat.session.ask("really?")
    chat.session.close()
    record = {"id": 3, "parent": 2, "role": "user", "content": "and now?"}
    path.write_bytes(path.read_bytes() + json.dumps(record).encode() + b"\n")


def interrupting(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The signal arrives while the prompt is read."""

    def progress(view: RecordingView, done: int, total: int) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(RecordingView, "progress", progress)


@pytest.mark.parametrize("before", [[], ["hello"]])
def test_ctrl_c_before_the_answer_takes_the_question_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: list[str]
) -> None:
    path = tmp_path / "talk.jsonl"
    chat = opened(path)
    for question in before:
        chat.session.ask(question)
    contents = list(chat.contents)
    with monkeypatch.context() as patched:
        interrupting(patched, signal.SIGINT)
        assert chat.session.ask("in vain").exit_code == 130
    assert chat.contents == contents
    assert path.exists() == bool(before)  # a session in which nothing was said is none
    chat.session.ask("again")
    assert said(path) == chat.contents == [*contents, "again", "AGAIN"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_before_the_answer_keeps_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "talk.jsonl"
    chat = opened(path)
    interrupting(monkeypatch, number)
    before = signal.signal(number, signal.SIG_DFL)  # under nohup it is ignored
    try:
        assert chat.session.ask("in vain").exit_code == 128 + number
    finally:
        signal.signal(number, before)
    chat.session.close()
    assert said(path) == ["in vain"]


def test_a_question_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    chat = opened(path)
    chat.session.ask("hello")
    with pytest.raises(ContextOverflowError):
        chat.session.ask("x" * 100_000)
    assert said(path) == chat.contents == ["hello", "HELLO"]


@pytest.mark.parametrize(("cause", "code"), [(errno.EIO, 129), (errno.ENOSPC, None), (None, None)])
def test_an_answer_that_cannot_be_shown_any_more_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: int | None, code: int | None
) -> None:
    """The terminal closes, the disk below `> FILE` is full, or `| head` has seen enough."""
    path = tmp_path / "talk.jsonl"
    chat = opened(path)

    def write(view: RecordingView, text: str) -> None:
        view.text += text
        if len(view.text) >= 4:
            if cause is None:
                raise ReaderGoneError
            raise OutputError("cannot write to stdout") from OSError(cause, "gone")

    monkeypatch.setattr(RecordingView, "write", write)
    if code is None:
        with pytest.raises((OutputError, ReaderGoneError)):
            chat.session.ask("hello world")
    else:
        assert chat.session.ask("hello world").exit_code == code
    question, answer = said(path)
    assert question == "hello world"
    assert len(answer) >= 4
    assert "HELLO WORLD".startswith(answer)


def test_two_chats_that_begin_with_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = tmp_path / "l4" / "sessions" / "talk.jsonl"
    first = Chat(file=SessionFile(path, is_named=True))
    second = Chat(file=SessionFile(path, is_named=True))
    first.session.ask("I was first")
    with pytest.raises(UsageError, match="another l4 chat has begun the session talk"):
        second.session.ask("I was second")
    assert second.views == []  # told before the answer, not after it
    with pytest.raises(UsageError, match=r"reviews\.csv looks like a file, and /save writes \.md"):
        second.run("/save reviews.csv")
    second.run("/save other-v1.2")
    second.session.ask("I was second")
    assert said(path) == ["I was first", "I WAS FIRST"]
    assert said(path.with_name("other-v1.2.jsonl")) == ["I was second", "I WAS SECOND"]


def test_half_a_character_in_a_session_is_told_and_the_chat_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    chat = opened(path)
    chat.session.ask("one")
    chat.session.close()
    path.write_bytes(path.read_bytes().replace(b'"one"', b'"on\\ud83d"'))
    chat = opened(path)
    assert chat.session.losses == ("line 2 has half a character, which is read as \ufffd",)
    chat.session.ask("two")
    chat.session.close()
    assert chat.contents == ["on\ufffd", "ONE", "two", "TWO"]


def test_a_damaged_session_keeps_every_line_that_is_right(tmp_path: Path) -> None:
    """Whatever a session file holds: only what follows its last line break is ever cut off."""
    path = tmp_path / "talk.jsonl"
    chat = opened(path)
    for question in ("one", "two", "three"):
        chat.session.ask(question)
    chat.session.edit(3, "two again")
    chat.session.set("temperature", "0.5")
    chat.session.close()
    whole = path.read_bytes()
    for seed in seeds(100):
        data = damaged(whole, seed)
        path.write_bytes(data)
        kept = data[: data.rfind(b"\n") + 1]
        file = SessionFile(path)
        try:
            chat = Chat(file=file)
        except InputError:
            assert path.read_bytes() == data, seed
            continue
        chat.session.ask("and?")
        chat.session.close()
        after = path.read_bytes()
        assert after.startswith(kept), seed
        assert b'"and?"' in after[len(kept) :], seed
