"""What the watcher prints after the process has crashed or was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import L4
from marks import slow_but

from l4cli.batch.suspects import Crash, Suspects
from l4cli.native.watcher import Notes, Report

# A row that says EARLY crashes the process when it is tokenized; one that says LATE, when its
# tokens are decoded.
_SITECUSTOMIZE = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != "l4cli.engine.engine":
            return None
        sys.meta_path.remove(self)
        from l4cli.engine.llamacpp.context import LlamaBackend
        from l4cli.engine.llamacpp.model import LlamaModel
        tokenize, decode = LlamaModel._tokenize, LlamaBackend.decode
        marks = set()

        def crash():
            os.kill(os.getpid(), signal.SIGSEGV)

        def tokenizing(self, text, special):
            if "EARLY" in text:
                crash()
            ids = tokenize(self, text, special)
            if text == " LATE":
                marks.add(tuple(ids))
            return ids

        def decoding(self, items):
            marks.add(tuple(tokenize(self.model, " LATE", False)))
            for item in items:
                held = tuple(item.tokens)
                for mark in marks:
                    if any(held[n:n + len(mark)] == mark for n in range(len(held))):
                        crash()
            decode(self, items)

        LlamaModel._tokenize, LlamaBackend.decode = tokenizing, decoding
        return None

sys.meta_path.insert(0, Finder())
"""


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "l4cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, **options)


def write_rows(path: Path, *prompts: str) -> None:
    path.write_text("".join(f"{json.dumps({'prompt': prompt})}\n" for prompt in prompts))


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, "crashed in native code: segmentation fault (SIGSEGV)"),
        pytest.param(
            signal.SIGKILL,
            "was killed (by kill -9, or by a limit of the system)",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_that_is_killed_says_what_is_safe_and_goes_on(
    l4: L4, tmp_path: Path, tiny_gguf: Path, number: signal.Signals, words: str
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out file.jsonl"
    write_rows(rows, *(f"row {n}" for n in range(30)))
    command = [
        "run",
        rows,
        "-m",
        tiny_gguf,
        "-n",
        "8",
        "--no-timings",
        "--deterministic",
        "--temperature",
        "0",
        "-o",
    ]
    process = start(*command, out)
    while not (out.exists() and out.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == -number
    assert f"\nl4 {words}\n" in f"\n{said}"
    assert f"every row that was written to {out} is complete" in said
    (again,) = [line for line in said.splitlines() if "go on with:" in line]
    assert again.endswith(f"--deterministic --temperature 0 -o '{out}' --resume")
    is_crash = number != signal.SIGKILL
    assert ("l4 doctor" in said, "l4cli/batch/session.py" in said) == (is_crash, is_crash)

    written = len(read_rows(out))
    assert l4(*command, out, "--resume").returncode == 0
    assert l4(*command, tmp_path / "whole.jsonl").returncode == 0
    assert 0 < written < 30
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_failed_check_of_ggml_is_shown_in_its_words() -> None:
    code = """
import sys
from l4cli.native.watcher import watching
with watching(["bench", "my model"]):
    from l4cli.engine.llamacpp import library
    from llama_cpp import _ggml
    library.start()
    _ggml.libggml.ggml_abort(b"ggml.c", 7, b"GGML_ASSERT(%s) failed", b"n > 0")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT
    *_, first, second = done.stderr.splitlines()
    assert first == "l4: llama.cpp stopped on a failed check: ggml.c:7: GGML_ASSERT(n > 0) failed"
    assert second.endswith("to start again: l4 bench 'my model'")


def test_without_a_watcher_a_failed_check_is_still_shown() -> None:
    code = """
from l4cli.engine.llamacpp import library
from llama_cpp import _ggml
library.start()
_ggml.libggml.ggml_abort(b"ggml.c", 7, b"GGML_ASSERT(n > 0) failed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT
    assert "ggml.c:7: GGML_ASSERT(n > 0) failed" in done.stderr


def test_no_debugger_writes_into_the_answers(tmp_path: Path) -> None:
    """Even before l4 takes over llama.cpp's log, in a program of one's own."""
    for name in ("gdb", "lldb"):
        (tmp_path / name).write_text("#!/bin/sh\necho a long backtrace\n")
        (tmp_path / name).chmod(0o755)
    code = """
import l4cli.engine.llamacpp
from llama_cpp import _ggml
_ggml.libggml.ggml_abort(b"ggml.c", 7, b"GGML_ASSERT(n > 0) failed")
"""
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    env.pop("GGML_NO_BACKTRACE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGABRT
    assert done.stdout == ""
    assert "GGML_ASSERT(n > 0) failed" in done.stderr


@pytest.mark.parametrize("mark", slow_but(["LATE"], ["EARLY", "LATE"]))
def test_a_row_that_crashes_twice_becomes_an_error_row(
    l4: L4, tmp_path: Path, tiny_gguf: Path, mark: str
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write_rows(rows, *(f"row {n}" for n in range(5)), f"now {mark} end", "row 6", "row 7")
    command = ["run", rows, "-m", tiny_gguf, "-n", "4", "-o", out, "--resume"]
    for _ in range(2):
        assert l4(*command, env=env).returncode == -signal.SIGSEGV
    done = l4(*command, env=env)
    assert done.returncode == 1, done.stderr
    found = read_rows(out)
    assert [row["id"] for row in found] == list(range(1, 9))
    errors = [row for row in found if "error" in row]
    assert [row["id"] for row in errors] == [6]
    assert errors[0]["error"]["type"] == "crash"
    assert "l4 crashed on this row 2 times (SIGSEGV)" in errors[0]["error"]["message"]
    assert errors[0]["error"]["line"] == 6

    # With --retry-errors the row is tried again, and answered, since nothing crashes any more.
    assert l4(*command[:-1], "--retry-errors").returncode == 0
    assert all("error" not in row for row in read_rows(out))


def test_kill_9_never_makes_an_error_row(l4: L4, tmp_path: Path, tiny_gguf: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    write_rows(rows, "one long row")
    command = ["run", rows, "-m", tiny_gguf, "--ignore-eos", "-n", "2000", "-o", out, "--resume"]
    for _ in range(3):
        process = start(*command)
        while not out.with_name("out.jsonl.journal").exists():
            time.sleep(0.01)
        time.sleep(0.3)
        process.kill()
        process.communicate(timeout=60)
    assert "crash" not in out.with_name("out.jsonl.journal").read_text()


def test_a_command_that_ends_well_leaves_nothing_behind(l4: L4) -> None:
    done = l4("models")
    assert (done.returncode, done.stderr) == (
        0,
        "* is the default, used without --model; `l4 config set model NAME` changes it\n",
    )


def test_the_watcher_keeps_no_pipe_open() -> None:
    """In `l4 … | program`, the program's input ends when l4 does."""
    reader, writer = os.pipe()
    process = start("models", pass_fds=[writer])
    os.close(writer)
    process.communicate(timeout=60)
    assert os.read(reader, 1) == b""


def hangs_up() -> None:
    """Restore the default action of SIGHUP: under `nohup`, all child processes ignore it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


STOPS = ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129))


@pytest.mark.parametrize("stop", slow_but(STOPS[:1], STOPS))
def test_what_asks_to_stop_leaves_the_watcher_silent(
    tmp_path: Path, tiny_gguf: Path, stop: tuple[int, int]
) -> None:
    number, exit_code = stop
    rows, out = tmp_path / f"{exit_code}.jsonl", tmp_path / f"{exit_code}-out.jsonl"
    write_rows(rows, *(f"row {n}" for n in range(300)))
    process = start(
        "run",
        rows,
        "-m",
        tiny_gguf,
        "-n",
        "8",
        "-o",
        out,
        start_new_session=True,
        preexec_fn=hangs_up,
    )
    while not (out.exists() and out.stat().st_size):
        time.sleep(0.01)
    os.killpg(process.pid, number)  # like a terminal: the watcher gets the signal, too
    _, said = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert "crash" not in said
    assert "killed" not in said


def test_notes_hold_the_latest_report_and_the_rows_in_work() -> None:
    notes = Notes()
    assert notes.read() == Report()
    for report in (Report(("one",)), Report(("ä", "two"), "/a/journal", "n > 0")):
        notes.write(report)
        assert notes.read() == report
    notes.write(Report(("x" * 100_000,), "/a/journal"))  # too long: only the journal is kept
    assert notes.read() == Report((), "/a/journal")
    first, second = b"12345678", b"abcdefgh"
    notes.begin(first)
    notes.begin(second)
    notes.begin(second)
    assert notes.rows() == [first, second]
    notes.prepare(b"prepared")
    assert notes.rows() == [b"prepared"]
    notes.prepare(None)
    notes.end(first)
    notes.end(first)
    assert notes.rows() == [second]


def test_more_rows_in_work_than_there_is_room_for_are_left_out() -> None:
    notes = Notes()
    digests = [n.to_bytes(8, "big") for n in range(1, 3000)]
    for digest in digests:
        notes.begin(digest)
    assert set(notes.rows()) < set(digests)
    for digest in digests:
        notes.end(digest)
    assert notes.rows() == []


def test_who_is_to_blame() -> None:
    a, b = b"aaaaaaaa", b"bbbbbbbb"
    together, alone = Crash("SIGSEGV", (a, b)), Crash("SIGABRT", (a,))
    assert not Suspects(()).includes(a)
    assert Suspects((together,)).includes(a)
    assert Suspects((together,)).includes(b)
    assert Suspects((together,)).verdict(a) is None
    assert Suspects((alone,)).verdict(a) is None
    assert Suspects((together, together)).verdict(a) is None  # it may have been the other row
    error = Suspects((together, alone)).verdict(a)
    assert error is not None
    assert "2 times (SIGABRT)" in str(error)
    assert Suspects((together, alone)).verdict(b) is None
