"""Paths with blanks in a chat: in quotes, with backslashes, as they are, and completed by Tab."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_support import Chat
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from l4cli.chat.terminal.editing import CommandCompleter
from l4cli.errors import InputError, UsageError

NAME = "my report.txt"
WAYS = [NAME, f'"{NAME}"', f"'{NAME}'", "my\\ report.txt", 'my" "report.txt', f'"./{NAME}"']


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chat:
    monkeypatch.chdir(tmp_path)
    Path(NAME).write_text("the report", "utf-8")
    return Chat()


@pytest.mark.parametrize("typed", WAYS)
@pytest.mark.parametrize("command", ["/file", "/doc"])
def test_files_with_blanks_are_attached(chat: Chat, command: str, typed: str) -> None:
    assert NAME in chat.run(f"{command} {typed}")
    assert [Path(one.name).name for one in chat.session.attachments] == [NAME]
    assert NAME in chat.run(f"/detach {typed}" if "./" not in typed else "/detach")


@pytest.mark.parametrize("typed", ["a b.md", '"a b.md"', "a\\ b.md"])
def test_files_with_blanks_are_written_and_read(chat: Chat, typed: str) -> None:
    chat.session.ask("hello")
    assert chat.run(f"/export {typed}") == "saved to a b.md"
    assert chat.run(f"/save {typed} --overwrite") == "saved to a b.md"
    chat.run(f"/export {typed.replace('.md', '.jsonl')}")
    assert chat.run(f"/load {typed.replace('.md', '.jsonl')}").startswith("loaded: 1 question")
    chat.run(f"/system @{WAYS[1]}")
    assert chat.session.tree.system == "the report"


def test_what_is_not_there_is_named_as_it_was_meant(chat: Chat) -> None:
    with pytest.raises(InputError, match=r"^no such\.txt: "):
        chat.run('/file "no such.txt"')
    with pytest.raises(UsageError, match="quotation mark is not closed"):
        chat.run('/file "no such.txt')
    odd = Path("it's 3\" wide.txt")
    odd.write_text("wide", "utf-8")
    assert odd.name in chat.run(f"/file {odd}")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("/file my re", f"/file {NAME}"),
        ('/file "my', f'/file "{NAME}"'),
        ("/file 'my r", f"/file '{NAME}'"),
        ("/file my\\ r", "/file my\\ report.txt"),
        ('/file "it', '/file "it\'s 3\\" wide.txt"'),
        ("/file 'it", '/file "it\'s 3\\" wide.txt"'),
        ('/doc "my report.txt" it', '/doc "my report.txt" "it\'s 3\\" wide.txt"'),
        ("/doc a.txt my", f'/doc a.txt "{NAME}"'),
        ("/doc my rep", f"/doc {NAME}"),
        ("/doc my", f'/doc "{NAME}"'),
        ('/file "some f', '/file "some folder'),
        ('/file "some folder/', '/file "some folder/note.txt"'),
        ("/system @'my", f"/system @'{NAME}'"),
    ],
)
def test_tab_inserts_what_works(chat: Chat, typed: str, completed: str) -> None:
    Path("it's 3\" wide.txt").write_text("wide", "utf-8")
    Path("a.txt").write_text("a", "utf-8")
    Path("some folder").mkdir()
    Path("some folder/note.txt").write_text("note", "utf-8")
    (found,) = CommandCompleter(chat.session).get_completions(Document(typed), CompleteEvent())
    line = typed[: len(typed) + found.start_position] + found.text
    assert line == completed
    if "folder" not in line or line.endswith('txt"'):
        chat.run(line)
