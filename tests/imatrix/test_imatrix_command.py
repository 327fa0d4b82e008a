"""The command `l4 imatrix` with real models: resuming, merging, coverage, bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoders import write_decoder
from gguf import GGUFReader
from terminal import CTRL_C, Terminal

import convert
from l4cli.app import invoke
from l4cli.imatrix import files, partial

GOLDEN = Path(__file__).parent.parent / "golden"
TEXT = GOLDEN / "perplexity.txt"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs `l4 imatrix …` here; it gives the exit code and stderr."""

    def run(*args: object) -> tuple[int, str]:
        options = [] if "--merge" in args else ["--threads", "1"]
        monkeypatch.setattr(sys, "argv", ["l4", "imatrix", *map(str, args), *options])
        code = invoke(debug=False)
        captured = capsys.readouterr()
        assert not captured.out
        return code, captured.err

    return run


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}


def same(a: Path, b: Path) -> bool:
    one, other = tensors(a), tensors(b)
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


def test_the_file_tells_what_was_read_and_quantizing_takes_it(
    tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path, run: Any
) -> None:
    out = tmp_path / "imatrix.gguf"
    code, err = run(tiny_gguf, "--text", TEXT, "--ctx", "64", "--chunks", "5", "-o", out)
    assert code == 0
    assert f"wrote {out}: 5 chunks of 64 tokens" in err
    fields = {name: field.contents() for name, field in GGUFReader(out).fields.items()}
    assert fields["general.type"] == "imatrix"
    assert fields["imatrix.datasets"] == [str(TEXT)]
    assert (fields["imatrix.chunk_count"], fields["imatrix.chunk_size"]) == (5, 64)
    assert not [key for key in fields if key.startswith("l4.")]
    assert [path.name for path in tmp_path.iterdir()] == ["imatrix.gguf"]
    found = tensors(out)
    experts = found["blk.1.ffn_down_exps.weight.counts"].ravel()
    assert experts.sum() == 5 * 64
    assert found["blk.1.ffn_down_exps.weight.in_sum2"].shape[0] == len(experts)
    assert found["blk.0.attn_q.weight.counts"].tolist() == [5 * 64]

    plan = convert.plan(tiny_checkpoint, "IQ2_XXS", options=convert.TypeOptions(imatrix=str(out)))
    report = convert.convert(plan, tmp_path / "model.gguf")
    assert report.path.exists()
    code, err = run(out)
    assert code == 2
    assert "is an importance matrix (imatrix), not a model" in err


def test_a_killed_run_goes_on_with_the_same_bits(
    tiny_gguf: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (tiny_gguf, "--text", TEXT, "--ctx", "64", "--chunks", "6", "--coverage", "10000")
    whole, out = tmp_path / "whole.gguf", tmp_path / "out.gguf"
    assert run(*options, "-o", whole)[0] == 0

    class KilledError(BaseException):
        pass

    def killed(file: partial.PartialFile, state: partial.State) -> None:
        file.save(state)
        if len(state.done) == 4:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(partial.PartialFile, "save_if_due", killed)
        with pytest.raises(KilledError):
            run(*options, "-o", out)
    assert not out.exists()
    assert files.read(partial.part_of(out)).num_chunks == 4  # an imatrix already
    for other in (("--ctx", "32"), ("--coverage", "9"), ("--chunks", "9"), ("--text", TEXT)):
        code, err = run(*options, *other, "-o", out, "--resume")
        assert code == 2
        assert "an unfinished run with another model, text or setting" in err
        assert len(err.splitlines()) == 1
    read = []
    from l4cli.imatrix.session import Collection

    def noted(backend: object, ids: list[int], width: int) -> None:
        read.append(len(ids))
        original(backend, ids, width)

    original: Any = Collection._read
    monkeypatch.setattr(Collection, "_read", staticmethod(noted))
    assert run(*options, "-o", out, "--resume")[0] == 0
    assert read == [64, 64]
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.part_of(out).exists()

    code, err = run(*options, "-o", out, "--resume")
    assert code == 0
    assert "is there already, complete" in err
    code, err = run(*options, "-o", out)
    assert code == 2
    assert f"{out} exists: give another name, or replace it with --overwrite" in err
    assert run(*options, "-o", out, "--overwrite")[0] == 0


def test_ctrl_c_keeps_what_was_read(tiny_gguf: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"
    text.write_text("one two three four five six seven\n" * 60_000)
    options = ("--text", str(text), "--ctx", "64", "--threads", "1", "-o", "out.gguf")
    command = [sys.executable, "-m", "l4cli", "imatrix", str(tiny_gguf), *options]
    with Terminal(command, cwd=tmp_path) as terminal:
        terminal.wait_for(r"[1-9][\d,]* of [\d,]+ tokens")
        terminal.type(CTRL_C)
        assert terminal.exit_code() == 130
        assert "the same command with --resume goes on" in " ".join(terminal.text().split())
    found = files.read(tmp_path / "out.gguf.part")
    assert found.num_chunks > 0
    assert not (tmp_path / "out.gguf").exists()


# Saves after each chunk, so that kills hit the middle of a save.
_SAVING = """
from l4cli.app import main
from l4cli.imatrix import partial
partial._SECONDS = partial._SHARE = 0
main()
"""


@pytest.mark.slow
def test_kills_at_any_moment_leave_a_whole_file(tiny_gguf: Path, tmp_path: Path, run: Any) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out.gguf"
    text.write_text(TEXT.read_text() * 8)
    options = (tiny_gguf, "--text", text, "--ctx", "64")
    assert run(*options, "-o", tmp_path / "whole.gguf")[0] == 0
    command = [sys.executable, "-c", _SAVING, "imatrix", *map(str, options), "--threads", "1"]
    part, reached = partial.part_of(out), 0
    for pause in (0.0, 0.05, 0.11):
        process = subprocess.Popen([*command, "-o", str(out), "--resume"])
        while process.poll() is None and (partial.num_done(out) or 0) <= reached:
            time.sleep(0.01)
        time.sleep(pause)
        process.kill()
        process.wait(30)
        if out.exists():  # it was quicker
            break
        reached = files.read(part).num_chunks
    assert run(*options, "-o", out, "--resume")[0] == 0
    assert out.read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"text.txt", "out.gguf", "whole.gguf"}


def test_merging_adds_up_and_add_begins_with_a_file(
    tiny_gguf: Path, tmp_path: Path, run: Any
) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    lines = TEXT.read_text().splitlines(keepends=True)
    first.write_text("".join(lines[:25]))
    second.write_text("".join(lines[25:]))
    names = ("a", "b", "both", "merged", "added")
    a, b, both, merged, added = (tmp_path / f"{name}.gguf" for name in names)
    common = (tiny_gguf, "--ctx", "64")
    assert run(*common, "--text", first, "-o", a)[0] == 0
    assert run(*common, "--text", second, "-o", b)[0] == 0
    assert run(*common, "--text", first, "--text", second, "-o", both)[0] == 0
    assert run(*common, "--text", second, "--add", a, "-o", added)[0] == 0
    code, err = run("--merge", a, b, "-o", merged)
    assert code == 0
    assert f"wrote {merged}: 2 files" in err
    assert same(added, both)
    found, expected = tensors(merged), tensors(both)
    assert list(found) == list(expected)
    for name, values in expected.items():
        # Added in another order, float32 numbers are rounded differently.
        np.testing.assert_allclose(found[name], values, rtol=1e-4)
    assert files.read(merged).texts == (str(first), str(second))
    assert files.read(merged).num_chunks == files.read(a).num_chunks + files.read(b).num_chunks


def other_model(tmp_path: Path) -> Path:
    write_decoder(tmp_path / "other", "mixtral")
    path = tmp_path / "other.gguf"
    convert.convert(convert.plan(tmp_path / "other", "F32"), path)
    return path


def test_files_that_do_not_fit_are_one_line(
    tiny_gguf: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("--text", TEXT, "--ctx", "64", "--chunks", "2")
    assert run(tiny_gguf, *common, "-o", "own.gguf")[0] == 0
    other = other_model(tmp_path)
    assert run(other, *common, "-o", "others.gguf")[0] == 0
    Path("text.gguf").write_text("no imatrix")
    Path("taken.gguf.part").write_text("somebody's")
    Path("short.txt").write_text("one two")
    broken = Path(shutil.copy("own.gguf", "broken.gguf"))
    for tensor in GGUFReader(broken, "r+").tensors:
        if tensor.name == "blk.0.attn_q.weight.in_sum2":
            tensor.data[:] = np.nan
    for args, complaint in (
        (("--merge", "own.gguf", "others.gguf", "-o", "x"), "others.gguf: it is of another model"),
        (("--merge", "own.gguf", tiny_gguf, "-o", "x"), "so it is not an imatrix"),
        (("--merge", "own.gguf", "text.gguf", "-o", "x"), "text.gguf: is not an imatrix"),
        (("--merge", "own.gguf", "nowhere", "-o", "x"), "nowhere: No such file"),
        (
            ("--merge", "own.gguf", "broken.gguf", "-o", "x"),
            "broken.gguf: the sums of blk.0.attn_q",
        ),
        (("--merge", "own.gguf", "-o", "x"), "give two or more"),
        (("--merge", "own.gguf", "own.gguf"), "needs the name of the file"),
        (("--merge", "own.gguf", "own.gguf", "-o", "own.gguf"), "own.gguf exists"),
        (("--merge", "own.gguf", "own.gguf", "-o", "x", "--ctx", "64"), "--ctx is for measuring"),
        ((tiny_gguf, *common, "--add", "others.gguf", "-o", "x"), "others.gguf: it is of another"),
        ((tiny_gguf, *common, "--add", tiny_gguf, "-o", "x"), "so it is not an imatrix"),
        ((tiny_gguf, other, *common, "-o", "x"), "one model is measured at a time"),
        ((tiny_gguf, *common, "-o", "taken.gguf"), "is not an unfinished imatrix of l4"),
        ((tiny_gguf, *common, "-o", "no/x.gguf"), "there is no directory"),
        ((tiny_gguf, "--text", "short.txt", "-o", "x"), "short.txt: it has"),
        ((tiny_gguf, "--text", "nowhere.txt", "-o", "x"), "nowhere.txt: No such file"),
        ((tiny_gguf, "--ctx", "4", "-o", "x"), "--ctx must be at least 8"),
        ((tiny_gguf, "--ctx", "900M", "-o", "x"), "was trained for"),
    ):
        code, err = run(*args)
        assert code == 2, (args, err)
        assert complaint in err
        assert len(err.splitlines()) == 1
    assert not Path("x").exists()


def test_coverage_ends_early_and_tells_what_is_cold(
    tiny_gguf: Path, tmp_path: Path, run: Any
) -> None:
    out = tmp_path / "out.gguf"
    common = (tiny_gguf, "--text", TEXT, "--ctx", "32", "-o", out, "--overwrite")
    code, err = run(*common, "--coverage", "1")
    assert code == 0
    few = files.read(out)
    assert "experts have seen at least 1 token" in err
    assert min(counts.min() for counts in few.sums.experts().values()) >= 1
    code, err = run(*common, "--coverage", "100000")
    assert code == 0
    assert files.read(out).num_chunks > few.num_chunks
    assert "saw fewer than 100,000 tokens" in err
    assert "blk.1: 0 (" in err


def test_a_checkpoint_is_converted_for_it(
    tiny_checkpoint: Path, tiny_gguf: Path, tmp_path: Path, run: Any
) -> None:
    """Each token may pass more experts, up to all: then none is cold."""
    out = tmp_path / "out.gguf"
    options = ("--text", TEXT, "--ctx", "64", "--chunks", "2", "-o", out)
    code, err = run(tiny_checkpoint, *options, "--experts", "16")
    assert code == 0, err
    assert "converted to BF16 for this measurement" in err
    assert "experts have seen at least 32 tokens" in err
    found = files.read(out)
    assert {int(each) for counts in found.sums.experts().values() for each in counts} == {128}
    code, err = run(tiny_gguf, *options, "--overwrite", "--experts", "99")
    assert code == 2
    assert "sends each token to 1 to 16 experts" in err


def test_coverage_of_a_model_without_experts_is_refused(tmp_path: Path, run: Any) -> None:
    write_decoder(tmp_path / "dense", "llama3")
    gguf = tmp_path / "dense.gguf"
    convert.convert(convert.plan(tmp_path / "dense", "F32"), gguf)
    out = tmp_path / "out.gguf"
    code, err = run(gguf, "--text", TEXT, "--ctx", "64", "--coverage", "5", "-o", out)
    assert code == 2
    assert "has no experts: leave the option out" in err
    code, err = run(gguf, "--text", TEXT, "--ctx", "64", "--chunks", "2", "-o", out)
    assert code == 0
    assert len(err.splitlines()) == 1
    assert {len(entry.counts) for entry in files.read(out).sums.entries.values()} == {1}


def test_few_tokens_are_not_left_out(tiny_gguf: Path, tmp_path: Path, run: Any) -> None:
    """llama-imatrix takes no dense tensor from batches of fewer than 16 tokens."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": f"number {at}"}) for at in range(20)))
    out = tmp_path / "out.gguf"
    assert run(tiny_gguf, "--rows", rows, "--ctx", "9", "--chunks", "4", "-o", out)[0] == 0
    counts = {name: entry.counts.sum() for name, entry in files.read(out).sums.entries.items()}
    assert set(counts.values()) == {36}
    assert counts.keys() >= {"blk.0.attn_q.weight", "blk.1.ffn_gate_exps.weight"}


def test_weights_that_give_nan_are_told(tiny_gguf: Path, tmp_path: Path, run: Any) -> None:
    bad = Path(shutil.copy(tiny_gguf, tmp_path / "bad.gguf"))
    for tensor in GGUFReader(bad, "r+").tensors:
        if tensor.name == "blk.2.attn_norm.weight":
            tensor.data[:] = np.nan
    out = tmp_path / "out.gguf"
    code, err = run(bad, "--text", TEXT, "--ctx", "64", "-o", out)
    assert code == 2
    assert "no number (NaN or infinite) in front of blk.2." in err
    assert not out.exists()
