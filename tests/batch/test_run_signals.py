"""Ctrl-C and SIGTERM while `l4 run` prepares a row: it ends at once, and nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import L4
from slow_templates import slow_if, write_with_template

FAST = ("--ctx", "1024", "--temperature", "0", "--max-tokens", "3", "--threads", "1")
FIRST = json.dumps({"prompt": "first"}) + "\n"


@pytest.fixture(scope="module")
def slow_template(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template that is slow for some messages."""
    template = slow_if("messages[0].content | string")
    return write_with_template(tiny_checkpoint, tmp_path_factory.mktemp("slow"), template)


@contextmanager
def begun(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "l4cli", "run", *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        yield process
        process.kill()


def wait_for(out: Path) -> None:
    """Wait until a run has made OUT; half a second more brings it into what is slow."""
    while not out.exists():
        time.sleep(0.05)
    time.sleep(0.5)


def ids(path: Path) -> list[Any]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("what", "number", "code"),
    [
        ("document", signal.SIGTERM, 143),
        ("chat template", signal.SIGINT, 130),
        pytest.param("row template", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("pipe", signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_preparing_of_a_row(
    tiny_gguf: Path,
    slow_template: Path,
    tmp_path: Path,
    l4: L4,
    what: str,
    number: signal.Signals,
    code: int,
) -> None:
    out = tmp_path / "out.jsonl"
    (tmp_path / "slow.html").write_bytes(b"<b><i>x</b></i>" * 500_000)
    model = slow_template if what == "chat template" else tiny_gguf
    options = ["--template-row", slow_if("prompt")] if what == "row template" else []
    second = {"prompt": "slow"}
    if what == "pipe":
        second = {"prompt": "second"}  # and a third never comes
    if what == "document":
        second = {"document": str(tmp_path / "slow.html"), "questions": ["a"]}
    rows = FIRST + json.dumps(second) + "\n"
    arguments = ("-m", model, *FAST, "-o", out, *options)
    with begun("-", *arguments) as process:
        assert process.stdin
        process.stdin.write(rows.encode())
        wait_for(out)
        process.send_signal(number)
        assert process.wait(timeout=30) == code
        assert process.stderr
        said = process.stderr.read().decode()
    # The second row would be an error row if it had been waited for.
    assert ids(out) in ([], [1], [1, 2] if what == "pipe" else [1])
    again = said.partition("the rest was not run; go on with: l4 run ")[2]
    assert f"-o {out}" in again
    assert "--resume" in again
    assert "Traceback" not in said
    if what == "pipe":
        done = l4("run", "-", *arguments, "--resume", stdin=rows)
        assert (done.returncode, ids(out)) == (0, [1, 2])


def test_rows_in_a_file_that_are_not_begun_are_left(slow_template: Path, tmp_path: Path) -> None:
    """They are read and encoded many at once, before the first is computed."""
    out, file = tmp_path / "out.jsonl", tmp_path / "rows.jsonl"
    file.write_text(FIRST + json.dumps({"prompt": "slow"}) + "\n" + FIRST)
    with begun(file, "-m", slow_template, *FAST, "-o", out) as process:
        wait_for(out)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stderr
        said = process.stderr.read().decode()
        assert f"-o {out} --resume" in said.partition("go on with: l4 run ")[2]
    assert out.read_bytes() == b""
