"""Conversations as values and as files, and files that are attached to them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import papers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4cli.chat import files
from l4cli.chat.history import export as storage
from l4cli.chat.history.conversation import Conversation, Message, joined
from l4cli.errors import InputError, OutputError, UsageError


def answer(text: str, reason: str = "stop") -> Message:
    return Message("assistant", text, (1, 2), reason)  # type: ignore[arg-type]


TALK = Conversation(system="Be brief.").asked("one").extended(answer("1")).asked("two")


def test_a_change_leaves_the_old_conversation_as_it_was() -> None:
    longer = TALK.extended(answer("2"))
    assert len(TALK.messages) == 3
    assert longer.last_answer == answer("2")
    assert longer.num_questions == 2


def test_regenerate_goes_back_to_the_question() -> None:
    assert TALK.extended(answer("2")).without_answer() == TALK
    assert TALK.without_answer() == TALK
    with pytest.raises(UsageError):
        Conversation().without_answer()


def test_anything_but_stop_is_partial() -> None:
    assert not answer("x").is_partial
    assert answer("x", "abort").is_partial
    assert answer("x", "length").is_partial


def test_documents_stand_before_the_question() -> None:
    assert joined(["document", "", "question"]) == "document\n\nquestion"


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.one_of(st.none(), texts.filter(bool)),
    st.lists(st.tuples(texts, texts, st.sampled_from(["stop", "length", "abort"])), min_size=1),
)
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
    system: str | None,
    turns: list[tuple[str, str, str]],
) -> None:
    talk = Conversation(system=system)
    for question, reply, reason in turns:
        message = Message("assistant", reply, finish_reason=reason)  # type: ignore[arg-type]
        talk = talk.asked(question).extended(message)
    path = tmp_path_factory.mktemp("talk") / "talk.jsonl"
    storage.save(talk, path)
    assert storage.load(path) == talk


def test_a_saved_conversation_is_json_lines_for_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    path = folder / "talk.jsonl"
    storage.save(TALK.extended(answer("2", "abort")), path)
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "2", "finish_reason": "abort"},
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [path]
    storage.save(TALK, path)  # over a file that l4 wrote
    assert storage.load(path).num_questions == 2


def test_a_file_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work", "utf-8")
    with pytest.raises(OutputError, match="choose another name"):
        storage.save(TALK, path)
    assert path.read_text("utf-8") == "years of work"


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/talk.jsonl: No such file"):
        storage.save(TALK, tmp_path / "nowhere" / "talk.jsonl")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"role": "user", "content": "x"}\n{"role": "us', "line 2: not JSON"),
        (b'{"role": "user"}\n', "line 1: not a message"),
        (b'{"role": "tool", "content": "x"}\n', "line 1: role 'tool'"),
        (b'["user"]\n', "line 1: not a message"),
        (
            b'{"role": "user", "content": "x"}\n{"role": "system", "content": "x"}\n',
            "line 2: role 'system'",
        ),
        (b'{"role": "assistant", "content": "x", "finish_reason": "why"}', "finish_reason 'why'"),
        (b"\xff\xfe", "not UTF-8"),
        (b"\n\n", "it has no messages"),
    ],
)
def test_a_broken_conversation_names_its_line(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        storage.load(path)


def test_a_missing_conversation_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        storage.load(tmp_path / "talk.jsonl")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\x7fELF\0\0", "binary"),
        (b"caf\xe9", "not UTF-8 at byte 4"),
        (b" \n", "empty"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        files.read_text(path)


def test_documents_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(papers.docx([("heading 1", "Title"), ("", "text")]))
    assert files.read_text(path) == "# Title\n\ntext"
    assert files.decode(path.read_bytes(), "stdin") == "# Title\n\ntext"


def test_pages_without_text_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(papers.pdf(["one", papers.SCANNED]))
    assert files.read_text(path) == "one"
    assert capsys.readouterr().err == (
        f"{path}: no text on 1 of 2 pages (2): these may be scanned\n"
    )


def test_bom_and_final_newlines_are_taken_off() -> None:
    assert files.decode(b"\xef\xbb\xbfone\r\n\ntwo\n\n", "x") == "one\r\n\ntwo"


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        files.read_text(tmp_path)
