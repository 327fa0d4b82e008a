"""The command `l4 experts` on real models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import L4
from decoders import write_decoder
from terminal import CTRL_C, Terminal

import convert
from l4cli.app import invoke
from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.routing import RoutingWatcher
from l4cli.engine.types import BatchItem
from l4cli.engine.ubatches import Placed

ROWS = [
    {"text": "one two three four five six seven eight nine ten"},
    {"prompt": "12 + 27 = ", "completion": "39"},
    {"messages": [{"role": "user", "content": "What is {a: [b, c]}?"}]},
]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["l4", "experts", *map(str, args)])
    code = invoke(debug=False)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    convert.convert(
        convert.plan(write_decoder(folder / "model", "llama3"), "F32"), folder / "dense.gguf"
    )
    return folder / "dense.gguf"


def counted_alone(path: Path, text: str) -> np.ndarray:
    """Choices [layers, experts] of one text, computed by itself."""
    model = LlamaModel(path)
    found = np.zeros((4, 16), np.int64)

    def take(layer: int, _placed: Placed, chosen: np.ndarray) -> None:
        np.add.at(found[layer], chosen.ravel(), 1)

    tokens = [model.bos_token or 0, *model.tokenize(text)]
    backend = LlamaBackend(model, n_ctx=512, n_outputs=512, watcher=RoutingWatcher(take))
    backend.decode([BatchItem(0, 0, tokens, True, wants_all=True)])
    backend.close()
    model.close()
    return found


def test_rows_are_counted_each_for_itself(
    tiny_gguf: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, tiny_gguf, rows, "--json")
    assert code == 0
    value = json.loads(out)
    assert (value["experts"], value["experts_per_token"]) == (16, 1)
    assert [row["row"] for row in value["rows"]] == [1, 2, 3]
    for row, text in ((0, ROWS[0]["text"]), (1, "12 + 27 = 39")):
        assert value["rows"][row]["counts"] == counted_alone(tiny_gguf, str(text)).tolist()
    total = np.array([layer["counts"] for layer in value["layers"]])
    by_row = sum(np.array(row["counts"]) for row in value["rows"])
    by_class = sum(np.array(one["counts"]) for one in value["classes"].values())
    assert np.array_equal(total, by_row)
    assert np.array_equal(total, by_class)
    assert total.sum(1).tolist() == [value["tokens"]] * 4
    assert value["tokens"] == sum(row["tokens"] for row in value["rows"])
    assert {"word", "number", "control"} <= value["classes"].keys()


def test_another_number_of_experts(
    tiny_gguf: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, tiny_gguf, rows, "--json", "--experts", "3")
    assert code == 0
    value = json.loads(out)
    assert value["experts_per_token"] == 3
    sums = [sum(layer["counts"]) for layer in value["layers"]]
    assert sums == [3 * value["tokens"]] * 4


def test_a_long_text_in_windows_and_a_second_one(
    tiny_gguf: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    text, other = tmp_path / "text.md", tmp_path / "other.py"
    text.write_text("hello the world, 27 times. " * 60)
    other.write_text("def f(x):\n    return {x: [1, 2]}\n" * 20)
    code, out, _ = run(
        monkeypatch, capsys, tiny_gguf, text, "--ctx", "64", "--with", other, "--json"
    )
    assert code == 0
    value: dict[str, Any] = json.loads(out)
    assert value["tokens"] > 300
    assert "rows" not in value
    assert len(value["with"]["overlap"]) == 4
    assert 0 < value["with"]["mean_overlap"] < 1
    kept = value["keep"]["hottest"]
    assert [one["hits"] for one in kept] == sorted(one["hits"] for one in kept)
    assert kept[-1]["hits"] == 1
    same = run(monkeypatch, capsys, tiny_gguf, text, "--ctx", "64", "--with", text, "--json")[1]
    assert json.loads(same)["with"]["mean_overlap"] == 1


def test_a_prompt_is_counted_as_a_chat_has_it(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(monkeypatch, capsys, tiny_gguf, "-p", "hello", "--json")
    assert code == 0
    value = json.loads(out)
    assert value["text"] == "the prompt"
    assert value["classes"]["control"]["tokens"] > 3  # those of the chat template


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_a_terminal_of_any_width_shows_all(tiny_gguf: Path, rows: Path, columns: int) -> None:
    command = [
        sys.executable,
        "-m",
        "l4cli",
        "experts",
        str(tiny_gguf),
        str(rows),
        "--with",
        str(rows),
    ]
    with Terminal(command, columns=columns, rows=50) as terminal:
        assert terminal.exit_code() == 0
        shown = terminal.text()
    assert max(map(len, shown.splitlines())) <= columns
    assert "LAYER" in shown
    assert "row 3" in shown
    bars = [line for line in shown.splitlines() if set(line) & set("▁▂▃▄▅▆▇█·")]
    assert len(bars) >= 4


def test_a_pipe_has_no_colours(l4: L4, tiny_gguf: Path, rows: Path) -> None:
    for env in ({}, {"TERM": "dumb"}):
        done = l4("experts", str(tiny_gguf), str(rows), env=env)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert "code" in done.stdout


def test_ctrl_c_keeps_what_was_counted(tiny_gguf: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("hello the world, 27 times. " * 40_000)
    command = [sys.executable, "-m", "l4cli", "experts", str(tiny_gguf), str(text)]
    with Terminal(command, rows=60) as terminal:
        terminal.wait_for(r"[1-9][\d,]* of [\d,]+ tokens")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
        shown = terminal.text()
    assert "only" in shown
    assert "tokens were counted" in " ".join(shown.split())
    assert "LAYER" in shown


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("empty.txt", "", "it is empty"),
        ("empty.jsonl", "", "it has no rows"),
        ("wrong.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "wrong.jsonl:2: a row needs text"),
        ("bad.jsonl", '{"text": "a"}\n{"messages": [{"role": "u"}]}\n', "row 2: "),
        ("blank.jsonl", '{"text": 3}\n', "text must be a text"),
    ],
)
def test_wrong_files_are_one_line(
    tiny_gguf: Path, tmp_path: Path, name: str, content: str, complaint: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / name).write_text(content)
    code, out, err = run(monkeypatch, capsys, tiny_gguf, tmp_path / name)
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1


def test_wrong_options_are_one_line(
    tiny_gguf: Path, dense: Path, rows: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for args, complaint in (
        ((dense,), "dense has no experts"),
        ((tiny_gguf, rows, "-p", "x"), "cannot be given together"),
        ((tiny_gguf, "-p", ""), "-p is empty"),
        ((tiny_gguf, rows, "--ctx", "2"), "--ctx must be at least 8"),
        ((tiny_gguf, rows, "--experts", "17"), "to 1 to 16 experts"),
        ((tiny_gguf, rows, "--experts", "0"), "to 1 to 16 experts"),
        ((tiny_gguf, rows, "--with", "missing.txt"), "missing.txt"),
    ):
        code, out, err = run(monkeypatch, capsys, *args)
        assert (code, out) == (2, ""), args
        assert complaint in err
        assert err.count("\n") == 1


def test_a_model_that_computes_nan_is_one_line(
    tiny_gguf: Path, rows: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import shutil

    from gguf import GGUFReader

    broken = Path(shutil.copy(tiny_gguf, tmp_path / "broken.gguf"))
    for tensor in GGUFReader(broken, "r+").tensors:
        if tensor.name == "blk.1.attn_output.weight":
            tensor.data[:] = np.nan
    code, out, err = run(monkeypatch, capsys, broken, rows)
    assert (code, out) == (2, "")
    assert "no number" in err
    assert err.count("\n") == 1
