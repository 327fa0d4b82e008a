"""In a narrow terminal every word of a command's output is there, and none is divided."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import L4
from terminal import CTRL_C, Terminal

from l4cli import console

COMMANDS = {
    "models": ["models"],
    "info": ["info", "demo"],
    "plan": ["plan", "scout", "--gpu", "24G", "--ram", "64G@100"],
}
AMOUNT = r"\d[\d.,]* (?:[KMG]iB|tokens|heads|layers|wide)"


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [40, 60])
def test_no_word_is_divided_and_no_number_from_its_unit(l4: L4, name: str, columns: int) -> None:
    piped = l4(*COMMANDS[name])
    assert piped.returncode == 0, piped.stderr
    with Terminal([sys.executable, "-m", "l4cli", *COMMANDS[name]], columns=columns) as terminal:
        assert terminal.exit_code() == 0
        shown = terminal.text()
    words = {word for word in piped.stdout.split() if len(word) < columns - 20}
    assert words - {word for part in shown.split() for word in (part, part.rstrip(":"))} == set()
    assert {one for one in re.findall(AMOUNT, piped.stdout) if one not in shown} == set()
    assert max(map(len, shown.splitlines())) <= columns


def test_a_plan_in_a_narrow_terminal_is_a_record_for_each_type() -> None:
    command = ["plan", "scout", "--gpu", "24G", "--ram", "64G@100"]
    with Terminal([sys.executable, "-m", "l4cli", *command], columns=40) as terminal:
        assert terminal.exit_code() == 0
        shown = terminal.text()
    record = re.search(r"^MODEL    Q6_K\nWEIGHTS  82\.3\n(?:.+\n)+", shown, re.M)
    assert record
    assert re.search(r"^TOK/S    ~\d+\nfits; [\d.]+ GiB more RAM allows", record[0], re.M)
    pasted = shown[shown.index("run Q6_K:\n") + 10 :].replace("\\\n", "")
    assert pasted.split() == [
        "l4",
        "chat",
        "-m",
        "scout:Q6_K",
        "--gpu-layers",
        "auto",
        "--cpu-moe",
        "auto",
    ]


def test_a_table_in_a_pipe_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["NAME", "SIZE"], [["a" * 300, "388.41 kB"], ["水泵", "1 B"]])
    head, first, second = capsys.readouterr().out.splitlines()
    assert first == "a" * 300 + "  388.41 kB"
    assert head.index("SIZE") == 302
    assert second == "水泵" + " " * 296 + "  1 B"


@pytest.mark.parametrize("term", ["linux", "dumb"])
def test_after_ctrl_c_the_way_out_is_not_cut_off(
    tiny_gguf: Path, tmp_path: Path, term: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "hello", "temperature": 0, "ignore_eos": true}\n' * 4)
    command = ["run", str(rows), "-o", str(tmp_path / "out.jsonl"), "-m", str(tiny_gguf)]
    command += ["-n", "3000", "-t", "1", "--parallel", "2"]
    command = [sys.executable, "-m", "l4cli", *command]
    with Terminal(command, columns=40, env={"TERM": term}) as terminal:
        terminal.wait_for(r"\d rows|tokens/s|rows")
        terminal.type(CTRL_C)
        terminal.wait_for(r"finishing; Ctrl-C again stops it")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
