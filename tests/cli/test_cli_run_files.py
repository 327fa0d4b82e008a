"""`l4 run` with files: other input formats, resuming, retrying, dry runs."""

from __future__ import annotations

import json
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import L4

from l4cli.app import app
from l4cli.errors import L4Error, UsageError

FAST = ("--ctx", "1024", "--temperature", "0", "--max-tokens", "8", "--threads", "1")


def rows(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.split("\n") if line]


def prompts(*texts: str) -> str:
    return "".join(json.dumps({"prompt": text}) + "\n" for text in texts)


def comparable(path: Path) -> list[dict[str, Any]]:
    """The rows of a file without the fields that differ between runs: times and cached tokens."""
    found = rows(path.read_text())
    for row in found:
        row.pop("timings", None)
        row.get("usage", {}).pop("cached_tokens", None)
    return found


def test_rows_of_every_kind_in_one_file(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("the world is large " * 10)
    user = [{"role": "user", "content": "hello"}]
    body = {"model": "any", "messages": user, "max_completion_tokens": 4}
    url = "/v1/chat/completions"
    file = tmp_path / "p.jsonl"
    lines = [
        {"prompt": "hello", "n": 2, "seed": 1, "temperature": 0.9},
        {"document": "notes.md", "questions": ["one", "two"]},
        {"custom_id": "c", "method": "POST", "url": url, "body": body},
        {"custom_id": "d", "method": "POST", "url": url, "body": {**body, "stream": True}},
        {"id": "same", "messages": user},
        {"id": "same", "messages": user},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = l4("run", file, "-m", tiny_gguf, *FAST, "--verify", "3", "--price-per-hour", "2")
    assert done.returncode == 1
    n, document, envelope, refused, first, second = rows(done.stdout)
    assert [choice["seed"] for choice in n["choices"]] == [1, 2]
    assert document["answers"][1]["usage"]["cached_tokens"] > 30
    assert envelope["response"]["body"]["usage"]["completion_tokens"] <= 4
    assert refused["response"]["status_code"] == 400
    assert first["message"] == second["message"]
    notes = done.stderr.splitlines()
    assert notes[0].startswith("cost ")
    assert notes[1:] == [
        "l4: 1 row has the same id as an earlier row, first in line 6",
        "l4: 1 of 6 rows are errors",
        "line 4: stream: true is not supported, a row's answer is one line: leave it out",
        "verified: 3 of 3 answers were the same when asked alone",
    ]


def test_a_dry_run_counts_the_tokens_that_the_run_uses(
    l4: L4, tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    table.write_text('text,to\nhello,"the\nworld"\nhello world,you\n' + "x " * 2000 + ",me\n")
    command = ("run", "--csv", table, "--template-row", "{{ text }} to {{ to }}")
    command += ("-m", tiny_gguf, *FAST)
    report = l4(*command, "--dry-run", "--json")
    assert report.returncode == 1
    counted = json.loads(report.stdout)
    assert counted["too_long_lines"] == [5]
    answered = rows(l4(*command).stdout)
    used = [row["usage"]["prompt_tokens"] for row in answered if "usage" in row]
    assert len(used) == 2
    assert counted["prompt_tokens"]["total"] == sum(used)
    assert answered[2]["error"]["type"] == "context_overflow"
    assert app([*map(str, command), "--dry-run"], standalone_mode=False) == 1
    assert "cannot fit      1: line 5\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--text", "--csv"], "--text and --csv cannot be combined"),
        (["--json"], "--json is for the report of --dry-run"),
        (["--retry-errors"], "--retry-errors continues an output file: name it with -o"),
        (["--overwrite"], "--overwrite replaces an output file: name it with -o"),
        (["--overwrite", "--resume", "-o", "q"], "--overwrite begins a new file, and --resume"),
        (["--row-timeout", "0"], "--row-timeout must be above 0 seconds"),
        (["--row-timeout", "nan"], "--row-timeout must be above 0 seconds"),
        (["--price-per-hour", "nan"], "--price-per-hour must be a price"),
        (["--schema", "deep.json"], "deep.json: this JSON cannot be read: it is nested too deeply"),
        (["--schema", "none.json"], "none.json: No such file or directory"),
        (["--schema", "bad.json"], "bad.json: not JSON"),
        (["--schema", "list.json"], "list.json: a JSON schema must be an object, not a list"),
        (["--schema", "list.json", "--grammar", "g"], "--schema and --grammar cannot be combined"),
        (["--template-row", "{{ a"], "--template-row does not compile"),
        (["--csv", "p.csv"], "the CSV file has no column 'prompt'"),
        (["-o", "p"], "p is both input and output: the answers would overwrite it"),
    ],
)
def test_options_that_make_no_sense_are_told_before_a_model_is_loaded(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in (
        *(("bad.json", "{"), ("list.json", "[]"), ("deep.json", "[" * 900 + "]" * 900)),
        *(("p", ""), ("p.csv", "seed\n")),
    ):
        Path(name).write_text(content)
    if "p.csv" not in args:
        args = [*args, "p"]
    with pytest.raises(L4Error, match=message):
        app(["run", "-m", "no/such.gguf", *args], standalone_mode=False)


def test_a_changed_setting_is_refused_by_its_name(l4: L4, tiny_gguf: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    file.write_text(prompts("hello"))
    command = ("run", file, "-m", tiny_gguf, "-o", out, "--ctx", "512", "--threads", "1")
    assert l4(*command, "-n", "2").returncode == 0
    for options, message in (
        (["-n", "3"], "with --max-tokens 2, but now it is 3"),
        (["-n", "2", "--ignore-eos"], "without --ignore-eos, but now it is true"),
        (["-n", "2", "--unordered"], "without --unordered, but now it is true"),
        (["-n", "2", "--template-row", "x"], 'without --template-row, but now it is "x"'),
    ):
        with pytest.raises(UsageError, match=f"started {re.escape(message)}: give the same"):
            app([*map(str, command), "--resume", *options], standalone_mode=False)


def test_rows_that_are_wrong_themselves_are_told_with_the_reason_and_the_way_out(
    l4: L4, tiny_gguf: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "x.csv", tmp_path / "out.jsonl"
    file.write_text("name,review\na,good\nb,bad\nc,so so\n")
    command = ("run", file, "-m", tiny_gguf, *FAST, "-o", out, "--template-row")
    done = l4(*command, "{{ text }}")
    assert done.returncode == 1
    said = done.stderr.splitlines()[1:]
    assert said[:2] == [
        "l4: 3 of 3 rows are errors",
        "line 2: --template-row: 'text' is undefined; this row's fields: name, review "
        "(2 other rows have the same error)",
    ]
    again = shlex.join(map(str, ["l4", *command, "{{ text }}"]))
    assert said[2:] == [
        "the same again would fail again: correct the input and give "
        f"`{again} --retry-errors`, or change the options in `{again} --overwrite`",
    ]
    refused = l4(*command, "{{ review }}")
    assert (refused.returncode, "replace it with --overwrite" in refused.stderr) == (2, True)
    assert l4(*command, "{{ review }}", "--overwrite").returncode == 0
    assert ["error" in row for row in rows(out.read_text())] == [False] * 3
    assert l4(*command, "{{ review }}", "--resume").returncode == 0


def test_errors_are_asked_again_when_there_is_room_for_them(
    l4: L4, tiny_gguf: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "p.jsonl", tmp_path / "out.jsonl"
    file.write_text(prompts("hello", "hello " * 400, "world"))
    command = ("run", file, "-m", tiny_gguf, "-n", "4", "--temperature", "0", "-t", "1")
    assert l4(*command, "-o", out, "--ctx", "256").returncode == 1
    resumed = l4(*command, "-o", out, "--ctx", "256", "--resume")
    assert resumed.returncode == 1  # the rows that failed before are still errors
    assert "1 of the earlier rows are errors; ask them again with: l4 run" in resumed.stderr
    before = rows(out.read_text())
    assert ["error" in row for row in before] == [False, True, False]
    retried = l4(*command, "-o", out, "--ctx", "2048", "--retry-errors")
    assert retried.returncode == 0, retried.stderr
    assert f"2 rows already in {out}" in retried.stderr
    after = rows(out.read_text())
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1]["usage"]["prompt_tokens"] > 400


def test_a_disk_that_fills_up_leaves_whole_rows_to_go_on_from(
    l4: L4, tiny_gguf: Path, tmp_path: Path
) -> None:
    file, out, quiet = tmp_path / "p.jsonl", tmp_path / "out.jsonl", tmp_path / "quiet.jsonl"
    file.write_text(prompts(*(f"hello {n}" for n in range(20))))
    command = ("run", file, "-m", tiny_gguf, *FAST)

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))

    full = l4(*command, "-o", out, preexec_fn=small_disk)
    assert full.returncode == 2
    assert "the rows written so far are complete, continue with --resume" in full.stderr
    assert full.stderr.startswith(f"l4: cannot write to {out}: ")
    assert 0 < len(rows(out.read_text())) < 20
    assert l4(*command, "-o", out, "--resume").returncode == 0
    assert l4(*command, "-o", quiet).returncode == 0
    assert comparable(out) == comparable(quiet)


def test_ctrl_c_once_or_twice_leaves_a_file_to_go_on_with(
    l4: L4, tiny_gguf: Path, tmp_path: Path
) -> None:
    file, out, quiet = tmp_path / "p.jsonl", tmp_path / "out.jsonl", tmp_path / "quiet.jsonl"
    file.write_text(prompts(*(f"hello {n}" for n in range(60))))
    options = ["-m", str(tiny_gguf), "--ctx", "1k", "--temperature", "0", "-n", "16"]
    options += ["--parallel", "2", "--ignore-eos", "--threads", "1", str(file)]
    for num_signals in (1, 2):
        command = [sys.executable, "-m", "l4cli", "run", *options, "-o", str(out), "--resume"]
        before = out.stat().st_size if out.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        while process.poll() is None and (not out.exists() or out.stat().st_size == before):
            time.sleep(0.005)
        for _ in range(num_signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)  # two signals sent at once would count as one
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert f"-o {out} --resume" in error.decode().partition("go on with: l4 run ")[2]
        assert out.read_bytes().endswith(b"\n")
        assert len(rows(out.read_text())) < 60
    assert l4("run", *options, "-o", out, "--resume").returncode == 0
    assert l4("run", *options, "-o", quiet).returncode == 0
    assert comparable(out) == comparable(quiet)


@pytest.mark.parametrize(
    ("begins", "said"),
    [(b"%PDF-1.7\n", "is a PDF"), (b"PK\x03\x04", "is a document"), (b"GGUF", "is a model")],
)
def test_what_is_plainly_no_file_of_prompts_is_named(
    l4: L4, tiny_gguf: Path, tmp_path: Path, begins: bytes, said: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(begins + b"\n\n")
    done = l4("run", file, "-m", tiny_gguf)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{file} {said}" in done.stderr
