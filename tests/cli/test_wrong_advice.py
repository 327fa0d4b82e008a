"""Refusals say what is wrong in plain words, and advise what works where they are read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from commands_here import run_here

PDF = b"%PDF-1.4\n" + bytes(600)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where commands run, with settings of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.pdf").write_bytes(PDF)
    (tmp_path / "rand.bin").write_bytes(b"!\xee\xf1~" * 300)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "said", "unsaid"),
    [
        ("convert report.pdf", "give the directory with config.json", "give a .gguf file"),
        ("convert demo --type Q4_K_M --verify-only -o rand.bin", "is not a GGUF file", "b'"),
        ("convert demo --type Q9", "unknown type 'Q9'; ", "choose one"),
        ("info demo:Q9", "unknown type 'Q9'; ", "choose one"),
        ("convert demo --type Q4", "did you mean Q4_K_M", "mean Q4_1"),
        ("chat -m nosuch.gguf -p hi", "nosuch.gguf: no such file", "did you mean"),
        ("quantize nonexist.gguf", "nonexist.gguf: no such file", "did you mean"),
        ("chat -m min.gguf -p hi", "did you mean mine.gguf?", "trunc"),
        ("chat -m mine -p hi", "did you mean mine.gguf?", "behemoth"),
        ("chat -m demo-Q8_0 -p hi", "did you mean demo-Q8_0.gguf?", "behemoth"),
        ("chat --ctx 10 -p hi", "10 is too few tokens; the least is 256", "number of tokens"),
        ("run --ctx 10 rows", "10 is too few tokens; the least is 256", "number of tokens"),
        ("serve --ctx 10", "10 is too few tokens; the least is 256", "number of tokens"),
        ("chat --ctx 0 -p hi", "0 is too few", "not a number"),
        ("models alias x report.pdf", "is not a GGUF file but a PDF document", "use it as"),
        ("models alias --rm nosuch", "nosuch is not a name that you gave", "there are"),
        ("rm mine.gguf", "mine.gguf is a file outside the caches of l4", "is the file"),
        ("convert demo --ram 1K -o o.gguf", "--ram 1.0 KiB is too little", " 0M"),
        ("--verison", "did you mean --version?", "stands behind"),
    ],
)
def test_advice(here: Path, command: str, said: str, unsaid: str) -> None:
    for name in ("mine", "trunc", "demo-Q8_0"):
        (here / f"{name}.gguf").write_bytes(b"GGUF")
    ended = run_here(command.split())
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert said in ended.err
    assert unsaid not in ended.err


def test_a_wrong_variable_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L4_CTX", "abc")
    ended = run_here(["chat", "-p", "hi"])
    assert ended.err.startswith("l4: invalid value for L4_CTX: 'abc' is not a number of tokens")
    assert "'--ctx'" in run_here(["chat", "--ctx", "abc", "-p", "hi"]).err


def test_brackets_in_a_help_text_stay(here: Path) -> None:
    assert "tricks [str]" in run_here(["chat", "--help"]).out


def test_a_model_that_is_not_there_is_set_with_a_warning(here: Path) -> None:
    ended = run_here(["config", "set", "model", "nosuch"])
    assert ended.code == 0
    assert "warning: it is set all the same (`l4 config unset model` undoes it)" in ended.err


@pytest.mark.parametrize(("option", "value"), [("overwrite", "true"), ("out", "foo.jsonl")])
def test_a_default_that_may_do_harm_is_set_with_a_warning(
    here: Path, option: str, value: str
) -> None:
    ended = run_here(["config", "set", option, value])
    assert re.search(rf"warning: .*\brun\b.* now has --{option} {value}; ", ended.err)
    assert f"`l4 config unset {option}` undoes it" in ended.err
    assert "warning" not in run_here(["config", "set", f"run.{option}", value]).err


def test_an_alias_that_changes_says_what_it_was(here: Path) -> None:
    for name in ("one.gguf", "two.gguf"):
        (here / name).write_bytes(b"GGUF")
        ended = run_here(["models", "alias", "x", name])
        assert ended.code == 0
    assert f"x is {here / 'two.gguf'} (before: {here / 'one.gguf'}); use it" in ended.err


def test_a_guessed_bandwidth_and_the_columns_of_a_plan_are_explained(here: Path) -> None:
    shown = " ".join(run_here(["plan", "scout", "--ram", "64G", "--gpu", "none"]).out.split())
    assert "GB/s of RAM are assumed: --ram SIZE@GB/s states yours" in shown
    assert "CONTEXT: the most tokens that fit" in shown
    assert "assumed" not in run_here(["plan", "scout", "--ram", "64G@90", "--gpu", "none"]).out
