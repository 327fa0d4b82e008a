"""`l4 run` writes into its own files alone, and changes nothing before it is sure to go on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import L4
from damage import damaged, seeds
from typer.exceptions import TyperException

from l4cli.app import app
from l4cli.batch.files import open_input
from l4cli.batch.journal import JournaledOutput
from l4cli.batch.retry import RetriedOutput, open_journaled
from l4cli.batch.rows import read_rows
from l4cli.errors import InputError, L4Error, UsageError

SETTINGS = {"model": "m"}
LINES = [json.dumps({"prompt": f"row {n}"}).encode() for n in range(8)]
BOOKS = "2026-11-30  rent  -1,200.00\n"


def write_rows(path: Path, count: int = 99, *, failing: tuple[int, ...] = ()) -> None:
    with open_journaled(path, SETTINGS, resume=path.exists()) as out:
        for row in list(out.skip_done(read_rows(LINES)))[:count]:
            out.write(f"{row.line}: an answer", row.digest, failed=row.line in failing)
        out.finish()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("content", [BOOKS, '{"version": 2}\n', '{"l4_session": 1}\n', "{"[:1] * 9])
def test_a_journal_that_is_not_ours_is_refused(tmp_path: Path, content: str, resume: bool) -> None:
    journal = tmp_path / "notes.journal"
    journal.write_text(content)
    with pytest.raises(UsageError, match=r"notes\.journal exists and is not a journal of l4 run"):
        open_journaled(tmp_path / "notes", SETTINGS, resume=resume)
    assert contents(tmp_path) == {"notes.journal": content.encode()}


def test_nor_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "books.txt").write_text(BOOKS)
    (tmp_path / "notes.journal").symlink_to("books.txt")
    with pytest.raises(UsageError, match="is not a journal of l4 run"):
        open_journaled(tmp_path / "notes", SETTINGS, resume=False)
    assert (tmp_path / "books.txt").read_text() == BOOKS
    (tmp_path / "notes.journal").unlink()
    (tmp_path / "notes.journal").symlink_to("nowhere")
    with pytest.raises(UsageError, match="a link to a file that does not exist"):
        open_journaled(tmp_path / "notes", SETTINGS, resume=False)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["out.journal", "out.retry", "out.retry.journal"])
def test_files_of_a_retry_that_are_not_ours_stay(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "out", failing=(2,))
    (tmp_path / name).write_text(BOOKS)
    before = contents(tmp_path)
    with pytest.raises(L4Error):
        open_journaled(tmp_path / "out", SETTINGS, resume=False, retry_errors=True)
    assert contents(tmp_path) == before
    if name != "out.journal":  # such a file is no retry: a run may be resumed beside it
        write_rows(tmp_path / "out")
    assert contents(tmp_path) == before


def test_a_retry_is_given_up_by_deleting_it(tmp_path: Path) -> None:
    """As the message says; the journal that it leaves is not taken for that of OUT."""
    write_rows(tmp_path / "out", failing=(2, 5))
    before = contents(tmp_path)
    with RetriedOutput(tmp_path / "out", SETTINGS, unordered=False) as out:
        row = next(iter(out.skip_done(read_rows(LINES))))
        out.write("another answer, much longer than the first", row.digest)
    with pytest.raises(UsageError, match=r"or delete .*out\.retry to give it up"):
        write_rows(tmp_path / "out")
    (tmp_path / "out.retry").unlink()
    write_rows(tmp_path / "out")
    assert {name: contents(tmp_path)[name] for name in before} == before
    with open_journaled(tmp_path / "out", SETTINGS, resume=False, retry_errors=True) as again:
        assert [row.line for row in again.skip_done(read_rows(LINES))] == [2, 5]


def test_the_journal_is_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("out", "out.journal", "out.retry", "out.retry.journal"):
        Path(name).write_text('{"prompt": "a"}\n')
        with pytest.raises(UsageError, match=f"{name} is both input and output"):
            app(["run", "-m", "no/such.gguf", "-o", "out", name], standalone_mode=False)
        assert contents(tmp_path) == {name: b'{"prompt": "a"}\n'}
        Path(name).unlink()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "it is empty"),
        (".", "is a directory"),
        ("/dev/null", "/dev/null is a device"),
        ("/dev/stdout", "/dev/stdout is a device"),
        ("pipe", "pipe is a pipe"),
        ("n" * 250, "File name too long"),
        ("n" * 300, "File name too long"),
        ("nowhere/out", "there is no directory nowhere"),
    ],
)
def test_names_that_cannot_be_continued_are_told_before_a_model_is_loaded(
    tmp_path: Path, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "p").write_text('{"prompt": "a"}\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises((L4Error, TyperException)) as caught:
        app(["run", "-m", "no/such.gguf", "p", "-o", name], standalone_mode=False)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p", "pipe"]
    assert not Path("/dev/null.journal").exists()


def test_a_refused_run_has_shortened_nothing(tmp_path: Path) -> None:
    """The end of OUT has no entry yet, as after a kill; the input has changed since."""
    path = tmp_path / "out"
    write_rows(path, 5)
    with path.open("a") as out:
        out.write("6: half an ans")
    before = contents(tmp_path)
    with (
        pytest.raises(InputError, match="differs at line 2"),
        JournaledOutput(path, SETTINGS, resume=True) as resumed,
    ):
        list(resumed.skip_done(read_rows([LINES[0], b'{"prompt": "new"}', *LINES[2:]])))
    assert contents(tmp_path) == before


def test_an_output_that_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path, 5)
    path.write_text(path.read_text().replace("3: an answer", "3: my better answer"))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="line 3: is not as long as l4 wrote it"):
        write_rows(path)
    assert contents(tmp_path) == before


def test_zeros_at_the_end_as_after_a_power_cut_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_rows(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes(30))
    write_rows(path)
    assert path.read_bytes() == whole


def test_a_damaged_journal_costs_nothing(tmp_path: Path) -> None:
    """Whatever a journal holds: OUT is as it was, with an error that names it, or it is whole."""
    whole = tmp_path / "whole"
    write_rows(whole)
    path, journal = tmp_path / "out", tmp_path / "out.journal"
    write_rows(path, 5, failing=(2,))
    with journal.open("a") as file:
        file.write('{"crash": "SIGSEGV", "rows": ["0011223344556677"]}\n')
    rows, entries = path.read_bytes(), journal.read_bytes()
    for seed in seeds():
        path.write_bytes(rows)
        journal.write_bytes(damaged(entries, seed))
        before = contents(tmp_path)
        message = ""
        try:
            write_rows(path)
        except L4Error as error:
            message = str(error)
        if message:
            assert "out" in message
            assert "\n" not in message
            assert contents(tmp_path) == before, seed
        else:
            assert path.read_bytes() == whole.read_bytes(), seed


@pytest.mark.parametrize("unordered", [False, True])
def test_a_changed_document_is_noticed(tmp_path: Path, unordered: bool) -> None:
    document, path = tmp_path / "notes.md", tmp_path / "out"
    lines = [json.dumps({"document": "notes.md", "questions": ["hello"]}).encode(), LINES[1]]

    def run(**options: bool) -> list[int]:
        with open_journaled(path, SETTINGS, unordered=unordered, **options) as out:  # type: ignore[arg-type]
            rows = list(out.skip_done(read_rows(lines, folder=tmp_path)))
            for row in rows:
                failed, document = row.line == 2, row.document_digest
                out.write("an answer", row.digest, failed=failed, document=document)
            out.finish()
        return [row.line for row in rows]

    document.write_text("the world is large")
    assert run(resume=False) == [1, 2]
    before = contents(tmp_path)
    for options in ({"resume": True}, {"resume": False, "retry_errors": True}):
        document.write_text("the world is small")
        with pytest.raises(InputError, match=r"line 1: its document notes\.md has changed since"):
            run(**options)
        document.unlink()
        with pytest.raises(InputError, match=r"line 1, answered in .*No such file.*; restore it"):
            run(**options)
        assert path.read_bytes() == before["out"]
    document.write_text("the world is large")
    assert run(resume=False, retry_errors=True) == [2]
    assert run(resume=True) == []


def test_a_model_changed_in_its_middle_is_noticed(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model.gguf", tmp_path / "out.jsonl"
    model.write_bytes(tiny_gguf.read_bytes())
    (tmp_path / "p").write_text('{"prompt": "hello"}\n')
    command = ("run", tmp_path / "p", "-m", model, "-n", "2", "--ctx", "512", "-t", "1", "-o", out)
    assert l4(*command).returncode == 0
    time = model.stat().st_mtime_ns
    os.utime(model, ns=(time, time + 1))
    done = l4(*command, "--resume")
    assert done.returncode == 2
    assert "was started with the time of the model's file " in done.stderr
    hint = done.stderr.partition("`")[2].partition("`")[0]
    subprocess.run(f"{hint} {model}", shell=True, check=True)
    assert l4(*command, "--resume").returncode == 0


def test_only_an_output_with_a_journal_is_said_to_be_resumable(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text(BOOKS)
    with pytest.raises(UsageError) as caught:
        open_journaled(tmp_path / "thesis.txt", SETTINGS, resume=False)
    assert "--resume" not in str(caught.value)
    write_rows(tmp_path / "out")
    with pytest.raises(UsageError, match="continue it with --resume"):
        open_journaled(tmp_path / "out", SETTINGS, resume=False)


def test_a_binary_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(bytes(range(256)) * 8)
    with (
        pytest.raises(InputError, match=r"rows\.jsonl is a binary file, not a file of prompts"),
        open_input(str(path), None),
    ):
        pass
    for text in ('{"prompt": "\u00e9"}\n'.encode("latin1"), "prompt\n\u00e9\n".encode("utf-16")):
        path.write_bytes(text)
        with open_input(str(path), None) as file:
            assert file.read() == text
