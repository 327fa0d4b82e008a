"""Rows are answered while later ones have not come, or take long to read or to prepare."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeBackend, FakeVocabulary

from l4cli.batch.rows import read_rows
from l4cli.batch.runner import BatchOptions, run_rows
from l4cli.batch.stats import BatchStats
from l4cli.loading.llm import LLM

FAST = ("--ctx", "1024", "--temperature", "0", "--max-tokens", "3", "--threads", "1")
PATIENCE = 60  # seconds until a test fails; nothing depends on them otherwise


@contextmanager
def running(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "l4cli", "run", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0) as process:
        yield process
        process.kill()


def send(process: subprocess.Popen[bytes], text: str) -> None:
    assert process.stdin
    process.stdin.write(text.encode())


def answer(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next row of the output, which must come without any more input."""
    assert process.stdout
    line = b""
    while not line.endswith(b"\n"):
        assert select.select([process.stdout], [], [], PATIENCE)[0], "no answer comes"
        part = os.read(process.stdout.fileno(), 1)
        assert part, "the run has ended"
        line += part
    row: dict[str, Any] = json.loads(line)
    return row


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ((), ['{"prompt": "one"}\n', '{"wrong": 1}\n', '{"prompt": "three"}\n']),
        (("--csv",), ["prompt\none\n", '"two\nlines"\n', "three\n"]),
        ((), ['[{"prompt": "one"},\n', '{"prompt": "two"},\n', '{"prompt": "three"}\n']),
    ],
    ids=["lines", "csv", "array"],
)
def test_a_row_of_a_pipe_is_answered_before_the_next_one_comes(
    tiny_gguf: Path, options: tuple[str, ...], parts: list[str]
) -> None:
    with running("-", "-m", tiny_gguf, *FAST, *options) as process:
        for part in parts:
            send(process, part)
            row = answer(process)
            assert ("error" in row) == ("wrong" in part)
        assert process.poll() is None


def test_rows_are_answered_while_a_document_is_read(tiny_gguf: Path, tmp_path: Path) -> None:
    """The document is a pipe, which has its text only when the other answer was seen."""
    document, rows = tmp_path / "document.txt", tmp_path / "rows.jsonl"
    os.mkfifo(document)
    writer = os.open(document, os.O_RDWR)
    asked = {"document": str(document), "questions": ["What?"]}
    rows.write_text(json.dumps({"prompt": "one"}) + "\n" + json.dumps(asked) + "\n")
    with running(rows, "-m", tiny_gguf, *FAST) as process:
        assert answer(process)["id"] == 1
        os.write(writer, b"The lamp is green.")
        while select.select([writer], [], [], 0)[0]:  # it is closed when all of it was read
            pass
        os.close(writer)
        assert len(answer(process)["answers"]) == 1
        assert process.wait(PATIENCE) == 0


def test_rows_are_answered_while_a_prompt_is_rendered() -> None:
    seen = threading.Event()

    class Slow(FakeVocabulary):
        def tokenize(self, text: str, *, special: bool = False) -> list[int]:
            if "slow" in text:
                assert seen.wait(PATIENCE), "the first row waits for the second"
            return super().tokenize(text, special=special)

    llm = LLM("fake", Slow(), FakeBackend())
    lines = [b'{"prompt": "one"}', b'{"prompt": "slow"}', b'{"prompt": "three"}']
    answered = run_rows(llm, read_rows(lines), BatchOptions(look_ahead=1), BatchStats())
    first = next(answered)
    seen.set()
    found = [row["text"] for _, row in (first, *answered)]
    assert found == ["ONE", "SLOW", "THREE"]


def test_a_run_that_is_left_ends_what_it_prepares() -> None:
    """As when the output cannot be written: nothing may use a model that is freed next."""
    lines = [b'{"prompt": "one"}', b'{"prompt": "two"}']

    def source() -> Iterator[bytes]:
        yield from lines
        while True:  # a pipe in which nothing comes
            threading.Event().wait(0.05)

    llm = LLM("fake", FakeVocabulary(), FakeBackend())
    options = BatchOptions(look_ahead=1)
    answered = run_rows(llm, read_rows(source()), options, BatchStats())
    assert next(answered)[1]["text"] == "ONE"
    answered.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "l4-rows"]
