"""Sessions on disk: the log of a tree, files that are cut short or broken, and locks."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from chat_support import RecordingView, fake_llm
from hypothesis import given
from hypothesis import strategies as st
from tree_support import TALK, a, q, trees

from l4cli.chat.history.conversation import Message
from l4cli.chat.history.records import Replayed, changes, header, line, replay
from l4cli.chat.history.session_file import (
    SessionFile,
    last_session,
    require_session,
    session_names,
    session_path,
    sessions_dir,
    summaries,
)
from l4cli.chat.history.tree import Tree
from l4cli.chat.session import ChatSession
from l4cli.errors import InputError, OutputError, UsageError
from l4cli.prompt.tool_calls import ToolCall

HEADER = line(header("fake", "w", "2026-01-01T00:00:00Z"))


def read(data: bytes, weights: str = "w") -> Replayed:
    return replay(data, weights, lambda token: token < 256)


def logged(*trees: Tree) -> bytes:
    """Return the file of a session that had these trees one after another."""
    data, before = HEADER, Tree()
    for tree in trees:
        data += b"".join(map(line, changes(before, tree)))
        before = tree
    return data


@given(trees, st.integers(0))
def test_what_is_written_is_what_is_read(tree: Tree, at: int) -> None:
    later = tree.at(at % (tree.newest + 1)).said(q("more"), a("much"))
    found = read(logged(tree, later))
    assert (found.tree, found.losses) == (later, ())


@given(st.integers(0))
def test_cut_at_any_byte_all_that_is_whole_is_recovered(cut: int) -> None:
    steps = [Tree(system="é"), TALK.with_system("é"), TALK.with_system("é").at(2)]
    steps.append(steps[-1].said(q("zwei 中"), a("2")))
    whole = logged(*steps)
    cut %= len(whole)
    torn = whole[:cut].rpartition(b"\n")[2]
    found = read(whole[:cut])
    records = [json.loads(text) for text in whole[:cut].split(b"\n") if _is_json(text)]
    assert found.num_records == len(records)
    assert sorted(found.tree.nodes) == sorted({r["id"] for r in records if "id" in r})
    assert bool(found.losses) == bool(torn and not _is_json(torn))
    assert not any("lost" in loss for loss in found.losses)
    # The session can be continued from there.
    again = found.tree.said(q("and on"))
    rest = whole[: found.end] + (b"" if whole[: found.end].endswith(b"\n") or not cut else b"\n")
    resumed = read(rest + b"".join(map(line, changes(found.tree, again))))
    assert resumed.tree.nodes == again.nodes
    assert resumed.losses == ()


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@given(st.binary(max_size=200), st.integers(0, 5))
def test_no_bytes_break_the_reading(junk: bytes, at: int) -> None:
    lines = logged(TALK).split(b"\n")
    found = read(b"\n".join([*lines[:at], junk, *lines[at:]]))
    assert TALK.nodes.keys() <= found.tree.nodes.keys()
    assert found.tree.path() is not None


@given(st.integers(1, 4))
def test_a_lost_message_leaves_a_gap_and_nothing_else(lost: int) -> None:
    lines = logged(TALK).splitlines(keepends=True)
    broken = [b'{"id": 1, "par\n' if json.loads(x).get("id") == lost else x for x in lines]
    found = read(b"".join(broken))
    expected = ["one", "1", "two", "2"]
    if lost < 4:
        expected[lost - 1] = ""
        assert found.losses == (
            f"line {lost + 2} cannot be read",
            f"message {lost} is lost; those below it are kept",
        )
    else:
        expected.pop()
        assert found.losses == ("line 6 cannot be read",)
    assert [m.content for m in found.tree.conversation.messages] == expected
    assert [m.role for m in found.tree.conversation.messages][:2] == ["user", "assistant"]


def test_tool_calls_edits_and_reasons_are_kept() -> None:
    tree = Tree().said(
        q("weather?"),
        Message("assistant", "", (5,), tool_calls=(ToolCall("f", {"city": "Oslo", "n": [1]}),)),
        Message("ipython", '{"t": 1}'),
        Message("assistant", "Cold", (), "length"),
    )
    tree = tree.at(3).said(Message("assistant", "Warm", is_edited=True))
    assert read(logged(tree)).tree == tree


def test_token_ids_of_other_weights_or_of_control_tokens_are_not_taken() -> None:
    tree = Tree().said(q("x"), Message("assistant", "y", (1, 2)))
    assert read(logged(tree)).tree.nodes[2].message.token_ids == (1, 2)
    assert read(logged(tree), "others").tree.nodes[2].message.token_ids == ()
    evil = Tree().said(q("x"), Message("assistant", "y", (1, 256, 2)))
    assert read(logged(evil)).tree.nodes[2].message.token_ids == ()


def test_a_replaced_message_keeps_its_place() -> None:
    longer = TALK.replaced(4, a("2 and more"))
    assert read(logged(TALK, longer)).tree == longer


# Files.


def chat(name: str = "talk", **options: Any) -> ChatSession:
    return ChatSession(fake_llm(), RecordingView, file=SessionFile(session_path(name)), **options)


def contents(session: ChatSession) -> list[str]:
    return [message.content for message in session.conversation.messages]


def test_a_session_is_kept_from_its_first_answer_on() -> None:
    session = chat(system="Be brief.")
    session.set("temperature", "0.5")
    assert session_names() == []
    session.ask("hello")
    path = session_path("talk")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(sessions_dir().stat().st_mode) == 0o700
    records = [json.loads(text) for text in path.read_text("utf-8").splitlines()]
    assert records[0]["l4_session"] == 1
    assert records[0]["model"] == "fake"
    assert [r["content"] for r in records if "role" in r] == ["hello", "HELLO"]
    assert {"system": "Be brief."} in records
    assert {"settings": {"temperature": 0.5}} in records


def test_a_session_goes_on_where_it_was() -> None:
    session = chat(system="Be brief.")
    session.set("temperature", "0.5")
    session.ask("one")
    session.ask("two")
    session.undo()
    session.ask("three")
    session.file.close()  # type: ignore[union-attr]
    again = chat()
    assert again.tree == session.tree
    assert again.sampling == {"temperature": 0.5}
    assert contents(again) == ["one", "ONE", "three", "THREE"]
    assert again.losses == ()
    # The answers' token ids were read, so the prompt is exactly the same.
    assert again.tokens.prompt(again.conversation) == session.tokens.prompt(session.conversation)
    again.ask("four")
    again.file.close()  # type: ignore[union-attr]
    assert contents(chat(sampling={"temperature": 0.0}))[-1] == "FOUR"


def test_a_torn_last_line_is_told_of_and_cut_off() -> None:
    session = chat()
    session.ask("one")
    session.ask("two")
    session.file.close()  # type: ignore[union-attr]
    path = session_path("talk")
    path.write_bytes(path.read_bytes()[:-5])
    again = chat()
    assert contents(again) == ["one", "ONE", "two"]
    assert "cut short" in again.losses[0]
    again.regenerate()
    again.file.close()  # type: ignore[union-attr]
    third = chat()
    assert (contents(third), third.losses) == (["one", "ONE", "two", "TWO"], ())


@pytest.mark.parametrize("data", [b"PK\x03\x04\0\n\xff", b'{"a": 1}\n["user"]\n', b"thesis\n"])
def test_what_is_no_session_is_refused_and_left_alone(data: bytes) -> None:
    sessions_dir().mkdir(parents=True)
    path = session_path("talk")
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a session of l4 chat"):
        chat()
    assert path.read_bytes() == data
    session = chat("other")
    session.ask("hello")
    with pytest.raises(InputError):
        session.open(SessionFile(path))
    assert session.ask("still here").text == "STILL HERE"


def test_settings_that_make_no_sense_are_told_of_and_left_out() -> None:
    session = chat()
    session.ask("one")
    session.file.append([{"settings": {"top_p": 7.0}}])  # type: ignore[union-attr]
    session.file.close()  # type: ignore[union-attr]
    again = chat()
    assert again.sampling == {}
    assert "top_p" in again.losses[0]


def test_a_session_is_open_in_one_chat_at_a_time() -> None:
    session = chat()
    session.ask("hello")
    with pytest.raises(UsageError, match="talk is open in another l4 chat"):
        SessionFile(session_path("talk"))
    code = "from l4cli.chat.history.session_file import *; SessionFile(session_path('talk'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert "open in another l4 chat" in done.stderr
    session.file.close()  # type: ignore[union-attr]
    SessionFile(session_path("talk")).close()


def test_two_new_chats_of_one_name_take_two_files() -> None:
    first, second = chat(), chat()
    first.ask("one")
    second.ask("two")
    assert sorted(session_names()) == ["talk", "talk-2"]
    assert second.file is not None
    assert second.file.name == "talk-2"


def test_a_session_can_be_named_and_never_takes_another_s_place() -> None:
    session = chat()
    session.ask("one")
    other = chat("other")
    other.ask("two")
    assert session.file is not None
    with pytest.raises(UsageError, match="'other' exists already"):
        session.file.rename("other")
    with pytest.raises(UsageError, match="cannot be a session's name"):
        session.file.rename("../evil")
    session.file.rename("named")
    session.ask("more")
    assert sorted(session_names()) == ["named", "other"]
    assert b"more" in session_path("named").read_bytes()


def test_the_last_session_and_near_matches() -> None:
    with pytest.raises(UsageError, match="no session to continue yet"):
        last_session()
    chat("first").ask("what is what?")
    chat("second").ask("two")
    os.utime(session_path("first"), (2e9, 2e9))
    assert last_session() == "first"
    assert [s.first_question for s in summaries()] == ["what is what?", "two"]
    with pytest.raises(UsageError, match="did you mean second"):
        require_session("secnd")


def test_a_full_disk_loses_nothing_that_was_said(mounted: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(mounted))
    session = chat()
    session.ask("one")
    filler = mounted / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(OutputError, match=r"No space left.*next one tries again"):
        session.set_system("y" * 9000)
    filler.unlink()
    session.set_system("Be brief.")
    assert b"y" * 9000 in session_path("talk").read_bytes()
    session.file.close()  # type: ignore[union-attr]
    again = chat()
    assert (again.tree, again.losses) == (session.tree, ())
    again.file.close()  # type: ignore[union-attr]
