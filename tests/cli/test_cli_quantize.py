"""The command `l4 quantize`. The files that it writes are tested in tests/convert."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands_here import run_here
from conftest import L4

import convert


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantize") / "tiny-F16.gguf"
    convert.convert(convert.plan(tiny_checkpoint, "F16"), path)
    return path


def test_quantize_then_run(l4: L4, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny-q8.gguf"
    done = l4("quantize", base, "-o", out, "--type", "q8_0", "--verify")
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}: llama4 Q8_0" in done.stderr
    assert f"{out}: verified" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "recipe       Q8_0, as llama-quantize makes it" in l4("info", out).stdout
    answer = l4("run", "-m", out, "-n", "2", "--ctx", "512", stdin='{"prompt": "hello"}')
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["model"] == "tiny-q8"


def test_dry_run_tells_the_size_to_the_byte(l4: L4, base: Path, tmp_path: Path) -> None:
    args = ("quantize", base, "-o", tmp_path / "out.gguf", "--type", "Q4_K_M", "--json")
    plan = json.loads(l4(*args, "--dry-run").stdout)
    assert list(tmp_path.iterdir()) == []
    report = json.loads(l4(*args).stdout)
    assert plan["n_bytes"] == report["n_bytes"] == (tmp_path / "out.gguf").stat().st_size
    listed = json.loads(l4(*args[:2], "--type", "list", "--json").stdout)
    assert {size["ftype"]: size["n_bytes"] for size in listed}["Q4_K_M"] == report["n_bytes"]


def test_outputs_are_named_after_the_input(l4: L4, base: Path, tmp_path: Path) -> None:
    done = l4("quantize", base, "-o", tmp_path, "--type", "Q8_0", "--type", "Q5_0")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-Q8_0.gguf", "tiny-Q5_0.gguf"}


def test_a_blob_of_a_cache_gives_an_output_with_the_models_own_name(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = tmp_path / ("sha256-" + "3f" * 32)
    shutil.copy(base, blob)
    monkeypatch.chdir(tmp_path)
    done = run_here(["quantize", str(blob), "--type", "Q8_0"])
    assert done.code == 0, done.err
    assert {path.name for path in tmp_path.iterdir()} == {blob.name, "Tiny-Q8_0.gguf"}


def test_an_output_of_a_model_known_by_name_has_that_name(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l4cli.demo import demo_path

    demo_path("F16").parent.mkdir(parents=True)
    shutil.copy(base, demo_path("F16"))  # its name there carries a digest
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    done = run_here(["quantize", "demo:F16", "--type", "Q8_0"])
    assert done.code == 0, done.err
    assert [path.name for path in out.iterdir()] == ["demo-Q8_0.gguf"]


def test_a_finished_output_is_left_as_it_is(l4: L4, base: Path, tmp_path: Path) -> None:
    command = ("quantize", base, "-o", tmp_path / "out.gguf", "--type", "Q8_0", "--resume")
    assert l4(*command).returncode == 0
    again = l4(*command)
    assert "out.gguf is there and whole: there is nothing left to do" in again.stderr
    (tmp_path / "mine.gguf").write_text("my notes")
    refused = l4(*command[:3], tmp_path / "mine.gguf", "--type", "Q8_0")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "exists already" in refused.stderr


def test_refusals_are_one_line(l4: L4, base: Path, tmp_path: Path) -> None:
    small, mine = tmp_path / "small.gguf", tmp_path / "mine.gguf"
    assert l4("quantize", base, "-o", small, "--type", "Q4_0").returncode == 0
    shutil.copy(base, mine)
    before = sorted(tmp_path.iterdir())
    cases = [
        ((base, "out.gguf", "Q4_K_M"), f"l4 quantize {base} -o out.gguf --type Q4_K_M"),
        ((base, "--type", "F16"), "is F16 already, so there is nothing to be done"),
        ((small, "--type", "Q8_0"), "insist with --requantize"),
        ((mine, "-o", mine, "--overwrite"), "is the GGUF that is read"),
        ((base, "--type", "Q4_KM"), "did you mean"),
        ((base, "-o", f"{tmp_path}/nowhere/"), "no such directory; make it first"),
        ((tmp_path / "nowhere.gguf",), "no such file"),
    ]
    for arguments, said in cases:
        done = l4("quantize", *arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_convert_leads_to_it(l4: L4, base: Path) -> None:
    assert "`l4 quantize` it" in l4("convert", base).stderr
