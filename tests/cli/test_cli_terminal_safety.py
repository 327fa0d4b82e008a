"""No text from outside reaches a terminal with control characters in it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pexpect
import pytest
from checkpoints import write_checkpoint
from hollow import write_hollow
from marks import slow_but

from l4cli.printable import harmless

# What a file's name may hold (no slash, no NUL), and what a JSON or GGUF string may, too.
HOSTILE = "x\x1b]52;c;aGk=\x07\x1b[2J\x08\u202eevil\u2066\u009b31m[bold]y"
# l4's own sequences: colours, cursor movements, modes; nothing of HOSTILE is among them.
OWN = re.compile(r"\x1b\[[0-9;?]*[mKABCDGHJhlu]")


def on_terminal(*arguments: str, cwd: Path, typed: str = "") -> str:
    """What a terminal gets from the command, all of it."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "l4cli", *arguments],
        cwd=str(cwd),
        env={**os.environ, "TERM": "xterm-256color"},
        encoding="utf-8",
        codec_errors="backslashreplace",
        dimensions=(40, 120),
        timeout=60,
        echo=False,
    )
    if typed:
        child.send(typed)
    output: str = child.read()
    child.close()
    return output


def is_safe(output: str) -> bool:
    """Whether there is nothing in it but text and l4's own sequences."""
    text = OWN.sub("", output).replace("\r", "")
    return harmless(text) == text and "\x1b[2J" not in output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GGUF, a checkpoint, a row and a document whose names and strings are hostile."""
    config = write_checkpoint(tmp_path / "model", num_hidden_layers=1)
    values = json.loads((config / "config.json").read_text())
    (tmp_path / f"{HOSTILE}.txt").write_text(f"The code is {HOSTILE}.")
    write_hollow(tmp_path / f"{HOSTILE}.gguf", values, "Q8_0")
    (config / "config.json").write_text(json.dumps({**values, "model_type": HOSTILE}))
    rows = [{"prompt": "hi", HOSTILE: 1}, {"id": HOSTILE, "prompt": "hi", "max_tokens": 2}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


COMMANDS = (
    ("info", f"{HOSTILE}.gguf"),
    ("info", f"{HOSTILE}.gguf", "--tensors"),
    ("info", "model"),
    ("plan", f"{HOSTILE}.gguf"),
    ("plan", "model"),
    ("convert", "model", "-o", f"{HOSTILE}.out.gguf", "--dry-run"),
    ("convert", HOSTILE, "-o", "x.gguf"),
    ("run", "-m", "demo", "rows.jsonl"),
    ("run", "-m", HOSTILE, "rows.jsonl"),
    ("run", "-m", "demo", f"{HOSTILE}.jsonl"),
    ("chat", "-m", "demo", "-p", "hi", "--file", f"{HOSTILE}.txt", "-n", "3"),
    ("chat", "-m", f"{HOSTILE}.gguf", "-p", "hi"),
    ("ask", f"{HOSTILE}.txt", "-m", "demo", "-q", HOSTILE, "-n", "3"),
    ("ask", f"{HOSTILE}.txt", "-m", "demo", "--dry-run"),
    ("ask", f"{HOSTILE}.pdf", "-m", "demo", "-q", "hi"),
    ("docs", "list"),
    ("docs", "rm", HOSTILE),
    ("pull", HOSTILE),
    ("rm", HOSTILE),
    ("bench", HOSTILE),
    ("run", "--schema", f"{HOSTILE}.json", "rows.jsonl"),
    (HOSTILE,),
    ("run", f"--{HOSTILE}"),
)


@pytest.mark.parametrize(
    "command",
    slow_but(COMMANDS[::5], COMMANDS),
    ids=lambda command: f"{command[0][:9]}-{len(command)}",
)
def test_no_command_passes_control_characters_on(command: tuple[str, ...], folder: Path) -> None:
    output = on_terminal(*command, cwd=folder)
    assert output.strip()
    assert is_safe(output), ascii(output)
    assert "this is a bug" not in output


def test_names_keep_their_brackets(folder: Path) -> None:
    assert "[bold]y" in on_terminal("info", f"{HOSTILE}.gguf", cwd=folder)
