"""What follows the last row of OUT: l4's own is asked again, a user's line is never cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from l4cli.batch.outputs import is_own_line

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(l4: Run, tiny_gguf: Path, tmp_path: Path) -> Run:
    """`l4 run` over three rows, of which the second is an error, into out.jsonl."""
    rows = [{"prompt": "a"}, {"prompt": "b", "max_tokens": 0}, {"prompt": "c"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def again(*options: str) -> Any:
        common = ("-m", tiny_gguf, "-n", "2", "--temperature", "0", "--ctx", "512", "--no-timings")
        return l4("run", tmp_path / "in.jsonl", *common, "-o", tmp_path / "out.jsonl", *options)

    assert again().returncode == 1
    return again


@pytest.mark.parametrize(
    "line",
    [
        b"checked by hand, all fine\n",
        b"no line break",
        b'{"id": 4, "text": "added by hand"}\n',
        b'{"id": 4, "text": "added by hand", "usage": {}, "model":"x"}\n',
        b'{"id": 4, "text": "half a row and a note\n',
        b'{"text": "added by hand", "id": 4, "error": ""}\n',
        b"[1, 2]\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_line_of_a_user_is_not_taken_for_ours(line: bytes) -> None:
    assert not is_own_line(line)


@pytest.mark.parametrize(
    ("option", "more"), [("--resume", b"\n\nmy notes\n"), ("--retry-errors", b"my notes")]
)
def test_lines_of_a_user_are_refused_and_kept(
    run: Run, tmp_path: Path, option: str, more: bytes
) -> None:
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    with out.open("ab") as file:
        file.write(more)
    before = out.read_bytes(), journal.read_bytes()
    done = run(option)
    assert done.returncode == 2
    line = 6 if more.startswith(b"\n") else 4
    assert done.stderr == (
        f"l4: {out}, line {line}: l4 did not write it, and would cut it off; "
        "move it and what follows to another file, or give another -o\n"
    )
    assert (out.read_bytes(), journal.read_bytes()) == before


def test_rows_of_ours_without_an_entry_are_asked_again(run: Run, tmp_path: Path) -> None:
    """As after kill -9 between a row and its entry, and in the middle of the next row."""
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    whole = out.read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    entries = journal.read_bytes().splitlines(keepends=True)
    for left in (first, first + second[:20], first + b"\0" * 9, first + second + third[:-1], whole):
        out.write_bytes(left)
        journal.write_bytes(b"".join(entries[:2]))
        done = run("--resume")
        assert done.returncode == 1, done.stderr
        assert out.read_bytes() == whole
    assert f"{out}: rows at its end that its journal does not have: 2; they are" in done.stderr
