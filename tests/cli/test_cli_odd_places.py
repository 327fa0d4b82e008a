"""File names that are not UTF-8, closed streams, folders that cannot be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import L4

ROW = '{"prompt": "a", "max_tokens": 2}\n'


def closed(streams: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command with streams closed or redirected by the shell, such as `<&-`."""
    command = f'exec "$0" -m l4cli "$@" {streams}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_names_that_are_not_utf8_work_in_every_place(
    tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path, l4: L4
) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    model, rows, out = (odd / os.fsdecode(b"\xff" + name) for name in (b".gguf", b".txt", b".out"))
    shutil.copy(tiny_gguf, model)
    rows.write_text("a\n")
    shutil.copytree(tiny_checkpoint, odd / os.fsdecode(b"\xe9-1B"))
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("run", "-m", model, rows, "--text", "--template-row", '{"prompt": "{{text}}"}', "-n", "2"),
        ("run", "-m", model, rows, "--text", "-n", "2", "-o", out),
        ("chat", "-m", model, "-p", "a", "-n", "2", "--file", rows),
        ("ask", "-m", model, odd / "docs", "-q", "a", "-n", "2"),
        ("plan", model, "--ctx", "512"),
        ("info", model, "--json"),
        ("convert", odd / os.fsdecode(b"\xe9-1B"), "-o", odd / os.fsdecode(b"\xe9.gguf")),
        ("info", odd / os.fsdecode(b"\xe9.gguf")),
    )
    (odd / "docs").mkdir()
    shutil.copy(rows, odd / "docs" / os.fsdecode(b"\xe9.txt"))

    for command in commands:
        done = l4(*command)
        assert "bug in l4" not in done.stderr, (command, done.stderr)
        assert "Traceback" not in done.stderr, (command, done.stderr)
    assert out.exists()
    assert (odd / os.fsdecode(b"\xe9.gguf")).exists()


@pytest.mark.parametrize(
    ("streams", "args", "code", "said"),
    [
        ("<&-", ("run", "-m", "{model}"), 2, "stdin has no rows"),
        ("<&-", ("run", "-m", "{model}", "-"), 2, "stdin has no rows"),
        ("<&-", ("chat", "-m", "{model}"), 2, "nothing to answer: stdin is empty"),
        ("<&-", ("ask", "-m", "{model}", "-", "-q", "a"), 2, "stdin: the file is empty"),
        (">&-", ("models",), 2, "cannot write to stdout: it is closed"),
        ("<&- 2>&-", ("models",), 0, ""),
        ("2>/dev/full", ("run", "-m", "{model}", "--raw", "{rows}"), 0, ""),
        ("2>/dev/full", ("models", "--no-such-option"), 2, ""),
    ],
)
def test_closed_and_full_streams(
    streams: str, args: tuple[str, ...], code: int, said: str, tiny_gguf: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(ROW)
    given = [arg.format(model=tiny_gguf, rows=rows) for arg in args]

    done = closed(streams, *given)

    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "bug in l4" not in done.stderr


@pytest.mark.slow
def test_a_home_that_cannot_be_written(tiny_gguf: Path, tmp_path: Path, l4: L4) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(ROW)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "HOME" and not name.startswith("XDG_")
    } | {"HOME": "/proc"}  # not even root can make a folder there
    run = l4("run", "-m", tiny_gguf, "--raw", rows, env=environment)
    assert json.loads(run.stdout)["finish_reason"], run.stderr
    for command in (("models",), ("docs", "list"), ("plan", str(tiny_gguf), "--ctx", "512")):
        done = l4(*command, env=environment)
        assert done.returncode == 0, (command, done.stderr)
    demo = l4("run", "-m", "demo", rows, env=environment)
    assert demo.returncode == 2
    assert "set XDG_CACHE_HOME to a folder that can be written" in demo.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parallel = 8", "'parallel' is not a command"),
        ("run = 8", "its options are a table: [run]"),
        ("[docs]\nadd = 1", "its options are a table: [docs.add]"),
        ("[run]\nparallel = [1]", "[run] parallel is [1]"),
        ("[run]\nparallel = {a = 1}", "[run] parallel is {'a': 1}"),
        ("[run]\nsystem = 1979-05-27", "[run] system is "),
        ("[run]\nx = " + "[" * 10_000, "nested too deep"),
    ],
)
def test_a_config_file_of_a_wrong_shape_is_one_line(text: str, said: str, l4: L4) -> None:
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "l4" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(text)

    done = l4("models")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"l4: {config}: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
