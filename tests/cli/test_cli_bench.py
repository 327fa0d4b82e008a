"""The command `l4 bench`: JSON, the estimates based on it, Ctrl-C and bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import L4
from terminal import CTRL_C, Terminal

from l4cli.app import app

SMALL = ("--depth", "0,300", "--batch", "1,2", "--prompt", "64", "--gen", "4", "--repeat", "2")


def test_a_bench_is_told_and_kept(
    l4: L4, tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = l4("bench", tiny_gguf, *SMALL, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert [row["depth"] for row in value["prefill"]] == [0, 300]
    assert [(row["batch"], row["depth"]) for row in value["decode"]] == [
        (1, 0), (1, 300), (2, 0), (2, 300),
    ]  # fmt: skip
    assert all(row["tokens_per_second"] > 0 for row in value["decode"] + value["prefill"])
    assert value["load_seconds"] > 0
    planned = value["memory"][-1]["planned"]
    assert planned["total"] > planned["weights"] > 0.9 * tiny_gguf.stat().st_size
    assert not value["interrupted"]
    assert value["kept"]

    rows = tiny_gguf.parent / "bench-rows.jsonl"
    rows.write_text('{"prompt": "hello", "max_tokens": 8}\n')
    asked = ["run", str(rows), "-m", str(tiny_gguf), "--dry-run", "--json"]
    app([*asked, "--threads", "1"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["seconds_at_most"] is not None
    app([*asked, "--threads", "2"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["seconds_at_most"] is None


def test_ctrl_c_shows_what_is_done(tiny_gguf: Path) -> None:
    command = [sys.executable, "-m", "l4cli", "bench", str(tiny_gguf), "--threads", "1"]
    with Terminal([*command, "--repeat", "1000000", "--depth", "0"]) as terminal:
        terminal.wait_for(r"prefill at depth 0 · 1 of \d+ · about [\d.]+ (s|min|h) left")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
        assert "l4: stopped before anything was measured" in terminal.text()
        assert "loaded in" in terminal.text()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--depth", "1,x"], "--depth: 'x' is not a number of tokens"),
        (["--depth", ""], "--depth: '' is not a number"),
        (["--batch", "0,1"], "--batch must be at least 1"),
        (["--batch", "1,-2"], "--batch: '-2' is not a number of sequences"),
        (["--batch", "257"], "--batch must be at most 256"),
        (["--depth", "10M"], "the model was trained for"),
        (["--kv-type", "q3"], "no KV type 'q3'"),
        (["--gen", "-1"], "--gen"),
    ],
)
def test_bad_input_is_one_line(
    tiny_gguf: Path, args: list[str], complaint: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from l4cli.app import invoke

    monkeypatch.setattr(sys, "argv", ["l4", "bench", str(tiny_gguf), *args])
    assert invoke(debug=False) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert len(err.splitlines()) == 1
