"""`l4 run` as a user runs it: in a process of its own, with a real model and pipes."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pexpect
import pytest
from conftest import L4

from convert.gguf.file import read_gguf

FAST = ("--ctx", "1024", "--temperature", "0", "--max-tokens", "8", "--threads", "1")


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.split("\n") if line]


def prompts(*texts: str) -> str:
    return "".join(json.dumps({"prompt": text}) + "\n" for text in texts)


def test_a_file_in_a_file_out(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(prompts("hello", "the world", "你好"))
    done = l4("run", file, "-m", tiny_gguf, *FAST, "--no-timings")
    assert done.returncode == 0
    assert done.stderr == ""
    answers = rows(done.stdout)
    assert [row["id"] for row in answers] == [1, 2, 3]
    for row in answers:
        assert row["finish_reason"] in ("stop", "length")
        assert row["model"] == "tiny"
    again = l4("run", "-", "-m", tiny_gguf, *FAST, "--no-timings", stdin=file.read_bytes())
    assert again.stdout == done.stdout  # the same bytes again, read from stdin
    assert "\x1b" not in done.stdout


def test_bad_lines_become_error_rows(l4: L4, tiny_gguf: Path) -> None:
    stdin = prompts("hello") + "{oops\n" + prompts("x " * 3000) + prompts("world")
    done = l4("run", "-m", tiny_gguf, *FAST, stdin=stdin)
    assert done.returncode == 1
    answers = rows(done.stdout)
    assert ["error" in row for row in answers] == [False, True, True, False]
    assert answers[1]["error"]["line"] == 2
    assert answers[2]["error"]["type"] == "context_overflow"
    first, reason = done.stderr.splitlines()
    assert first == "l4: 2 of 4 rows are errors"
    assert reason.startswith("line 2: not JSON")


def test_a_model_that_computes_no_numbers(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    """Its rows become errors. llama.cpp's own sampling would have ended the process."""
    damaged = tmp_path / "damaged.gguf"
    data = bytearray(tiny_gguf.read_bytes())
    norm = read_gguf(tiny_gguf).tensors["output_norm.weight"]
    data[norm.offset : norm.offset + 4] = np.float32("nan").tobytes()
    damaged.write_bytes(data)
    for temperature in ("0", "0.7"):
        done = l4(
            "run", "-m", damaged, *FAST, "--temperature", temperature, stdin=prompts("a", "b")
        )
        assert done.returncode == 1
        errors = [row["error"] for row in rows(done.stdout)]
        assert [error["type"] for error in errors] == ["engine", "engine"]
        assert "are not numbers (NaN or infinity)" in errors[0]["message"]


def test_one_bad_setting_is_told_once(l4: L4, tiny_gguf: Path) -> None:
    done = l4("run", "-m", tiny_gguf, "--top-p", "3", stdin=prompts("a", "b"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "l4: invalid value for '--top-p': it must be above 0 and at most 1 (see `l4 run --help`)\n"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing.jsonl"], "missing.jsonl: No such file or directory"),
        (["-m", "no/model.gguf"], "no/model.gguf: no such file"),
        (["-m", "scuot"], "no file and no model named 'scuot'; did you mean scout?"),
        (["--zzz"], "no such option: --zzz (see `l4 run --help`)"),
        (
            ["--parallel", "x"],
            "'x' is not valid: give auto, or a number of at least 1",
        ),
        (["--ctx", "lots"], "'lots' is not a number of tokens; try 4096, 128k or 1M"),
        (["--system", "@nowhere.txt"], "nowhere.txt: No such file or directory"),
    ],
)
def test_usage_errors_are_one_line(l4: L4, args: list[str], message: str) -> None:
    done = l4("run", *args, stdin=prompts("a"))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith("l4: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("option", [[], ["--dry-run"], ["--parallel", "2", "--ctx", "512"]])
def test_a_kv_type_there_is_not_is_told_with_those_there_are(
    l4: L4, tiny_gguf: Path, option: list[str]
) -> None:
    done = l4("run", "-m", tiny_gguf, "--kv-type", "q9", *option, stdin=prompts("a"))
    assert (done.returncode, done.stdout) == (2, "")
    said = "l4: invalid value for '--kv-type': no KV type 'q9': choose one of f16, bf16, f32, q8_0"
    assert done.stderr.startswith(said)


def test_files_that_are_no_models_are_one_line(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    other, half = tmp_path / "notes.gguf", tmp_path / "half.gguf"
    other.write_text("just some notes")
    half.write_bytes(tiny_gguf.read_bytes()[:3_000_000])
    for file, message in ((other, "is not a GGUF file"), (half, "not downloaded whole")):
        done = l4("run", "-m", file, stdin=prompts("a"))
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stdin", ["", "\n\n"])
def test_an_empty_file_is_said_to_be_empty(l4: L4, tiny_gguf: Path, stdin: str) -> None:
    done = l4("run", "-m", tiny_gguf, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "l4: stdin has no rows: nothing to do\n"


def test_input_and_output_must_differ(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(prompts("a"))
    with file.open("a") as out:
        command = [sys.executable, "-m", "l4cli", "run", str(file), "-m", str(tiny_gguf)]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert b"both input and output" in done.stderr
    assert file.read_text() == prompts("a")


def test_a_closed_pipe_is_no_error(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(prompts(*(["hello"] * 200)))
    command = f"{sys.executable} -m l4cli run {file} -m {tiny_gguf} --max-tokens 2 | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=60, check=False
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
    assert done.returncode == 0


def test_a_full_disk_is_one_line(tiny_gguf: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    command = [sys.executable, "-m", "l4cli", "run", "-m", str(tiny_gguf), *FAST]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            command,
            input=prompts("a").encode(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == b"l4: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_what_runs_and_stops(
    tiny_gguf: Path, tmp_path: Path, number: int, code: int
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(prompts(*(f"hello {n}" for n in range(5000))))
    command = [sys.executable, "-m", "l4cli", "run", str(file), "-m", str(tiny_gguf), *FAST]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(number)
    rest, error = process.communicate(timeout=60)
    assert process.returncode == code
    lines = (first + rest).decode()
    assert lines.endswith("\n")
    answers = rows(lines)
    assert [row["id"] for row in answers] == list(range(1, len(answers) + 1))
    assert len(answers) < 5000
    assert b"the rest was not run" in error


def test_a_signal_when_every_row_is_in_work_says_so(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(prompts("one", "two", "three").replace('"}', '", "max_tokens": 900}', 1))
    options = ["--parallel", "3", "-n", "9", "--ignore-eos", "--unordered", "--ctx", "4096"]
    command = [sys.executable, "-m", "l4cli", "run", str(file), "-m", str(tiny_gguf), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    first = process.stdout.readline()  # of a short row: the long one is in work
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(rows((first + rest).decode())) == 3
    assert b"stopped when every row was in work; all of them were finished" in error


def test_a_second_ctrl_c_stops_at_once(tiny_gguf: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(prompts(*(f"hello {n}" for n in range(50))))
    options = ["--parallel", "2", "--max-tokens", "3000", "--ctx", "8192", "--threads", "1"]
    command = [sys.executable, "-m", "l4cli", "run", str(file), "-m", str(tiny_gguf), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        # Let the first signal be handled, which shows nowhere. Two at once would count as one.
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def test_on_a_terminal_answers_go_to_the_file_and_progress_to_the_screen(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    prompts_file, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    prompts_file.write_text(prompts("hello", "world"))
    command = [sys.executable, "-m", "l4cli", "run", prompts_file, "-m", tiny_gguf, *FAST]
    line = f"{shlex.join(map(str, command))} > {out}"
    child = pexpect.spawn("bash", ["-c", line], timeout=60, encoding="utf-8")
    screen = child.read()
    child.close()
    assert child.exitstatus == 0
    assert [row["id"] for row in rows(out.read_text())] == [1, 2]
    assert "2 rows" in screen
    assert "finish_reason" not in screen


def test_raw_prompts_get_no_template(l4: L4, tiny_gguf: Path) -> None:
    done = l4("run", "--raw", "-m", tiny_gguf, *FAST, stdin=prompts("hello"))
    (row,) = rows(done.stdout)
    assert row["usage"]["prompt_tokens"] == 2  # BOS and one word


def test_shared_system_prompts_are_computed_once(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    system = tmp_path / "system.txt"
    system.write_text("You answer in one word. " * 10)
    done = l4("run", "-m", tiny_gguf, *FAST, "--system", f"@{system}", stdin=prompts("a", "b", "c"))
    cached = [row["usage"]["cached_tokens"] for row in rows(done.stdout)]
    assert cached[0] == 0
    assert min(cached[1:]) > 100
