"""`--imatrix auto` of `l4 convert` and `l4 quantize`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import convert
from l4cli.app import invoke
from l4cli.imatrix import files

TEXT = Path(__file__).parent.parent / "golden" / "perplexity.txt"
AUTO = ("--imatrix", "auto", "--imatrix-text", str(TEXT))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `l4 …` in an empty folder; it gives the exit code and stderr."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*args: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["l4", *map(str, args)])
        code = invoke(debug=False)
        return code, capsys.readouterr().err

    return run


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.slow
def test_converting_measures_on_a_model_that_is_deleted(tiny_checkpoint: Path, run: Any) -> None:
    code, err = run("convert", tiny_checkpoint, *AUTO, "--type", "IQ2_XXS", "--type", "Q4_K_M")
    assert code == 0
    assert names() == ["imatrix-tiny.gguf", "tiny-IQ2_XXS.gguf", "tiny-Q4_K_M.gguf"]
    assert "wrote imatrix-tiny.gguf: " in err
    # The same as in three steps.
    assert run("convert", tiny_checkpoint, "--type", "Q8_0", "-o", "q8.gguf")[0] == 0
    assert run("imatrix", "q8.gguf", "--text", TEXT, "-o", "own.gguf")[0] == 0
    assert Path("own.gguf").read_bytes() == Path("imatrix-tiny.gguf").read_bytes()
    options = convert.TypeOptions(imatrix="imatrix-tiny.gguf")
    convert.convert(convert.plan(tiny_checkpoint, "IQ2_XXS", options=options), Path("again.gguf"))
    assert Path("again.gguf").read_bytes() == Path("tiny-IQ2_XXS.gguf").read_bytes()


def test_quantizing_measures_on_the_gguf_itself(tiny_gguf: Path, run: Any) -> None:
    Path("out").mkdir()
    code, _ = run("quantize", tiny_gguf, *AUTO, "--type", "IQ2_XXS", "-o", "out")
    assert code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "imatrix-tiny.gguf",
        "tiny-IQ2_XXS.gguf",
    ]
    assert files.read(Path("out/imatrix-tiny.gguf")).texts == (str(TEXT),)


@pytest.mark.slow
def test_resuming_does_not_measure_again(
    tiny_checkpoint: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise convert.DiskError("the disk is full")

    command = ("convert", tiny_checkpoint, *AUTO, "--type", "IQ2_XXS")
    with monkeypatch.context() as patched:
        patched.setattr("l4cli.commands.convert_work.Work._write", full)
        assert run(*command)[0] == 2
    assert names() == ["imatrix-tiny.gguf"]
    code, err = run(*command)
    assert code == 2
    assert "imatrix-tiny.gguf exists: take it with --imatrix imatrix-tiny.gguf" in err
    code, err = run(*command, "--resume")
    assert code == 0
    assert "wrote imatrix-tiny.gguf" not in err
    assert names() == ["imatrix-tiny.gguf", "tiny-IQ2_XXS.gguf"]
    assert run(*command, "--overwrite")[0] == 0


def test_what_cannot_be_made_is_told_before_anything_is_measured(
    tiny_checkpoint: Path, tiny_gguf: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there.gguf").write_text("somebody's")
    short = Path("short.txt")
    short.write_text("one")
    command = ("convert", tiny_checkpoint, "--imatrix", "auto")
    for args, complaint in (
        ((*command, "--dry-run"), "--imatrix auto measures first, which --dry-run does not"),
        ((*command, "--hub"), "which --hub does not"),
        ((*command, "--verify-only", "-o", "x.gguf"), "which --verify-only does not"),
        ((*command, "-o", "there.gguf"), "there.gguf exists"),
        ((*command, "-o", "no/x.gguf"), "there is no directory no"),
        ((*command, "--tensor-type", "attn=nonsense"), "nonsense"),
        ((*command, "--type", "Q9"), "Q9"),
        ((*command, "--imatrix-text", short), "short.txt: it has"),
        ((*command, "--imatrix-text", "nowhere.txt"), "nowhere.txt: No such file"),
        (("convert", tiny_checkpoint, "--imatrix-text", TEXT), "give both"),
        (("quantize", tiny_gguf, "--imatrix", "auto", "--dry-run"), "which --dry-run does not"),
    ):
        code, err = run(*args)
        assert code == 2, (args, err)
        assert complaint in err
        assert len(err.splitlines()) == 1, err
        assert names() == ["short.txt", "there.gguf"]
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
        code, err = run(*command)
    assert code == 2
    assert "measuring needs" in err
    assert names() == ["short.txt", "there.gguf"]
