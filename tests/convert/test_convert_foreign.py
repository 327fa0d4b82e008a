"""A conversion replaces its own files alone; everything else under a name it needs is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from damage import damaged, seeds
from quantizer import make_sums, write_imatrix

import convert
from convert import ConvertError, Split, TypeOptions
from convert.writing.journal import journal_path
from convert.writing.writer import part_path

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}
THESIS = b"GGUF? No: four years of work.\n"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("foreign") / "model", **SMALL)


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> bytes:
    out = checkpoint.with_name("whole.gguf")
    convert.convert(convert.plan(checkpoint, "F32"), out)
    return out.read_bytes()


class StopError(Exception):
    """Interrupts a conversion, in place of a kill."""


def interrupted(checkpoint: Path, out: Path, **options: Any) -> None:
    seen: list[convert.Progress] = []

    def stop(progress: convert.Progress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise StopError

    with pytest.raises(StopError):
        run(checkpoint, out, progress=stop, threads=2, ram=1, **options)


def run(checkpoint: Path, out: Path, **options: Any) -> convert.Report:
    return convert.convert(convert.plan(checkpoint, "F32"), out, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["out.gguf", "out.gguf.part", "out.gguf.part.journal"])
def test_files_of_the_user_stay(checkpoint: Path, tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / name).write_bytes(THESIS)
    with pytest.raises(ConvertError, match=f"{name}: exists"):
        run(checkpoint, tmp_path / "out.gguf", resume=resume)
    assert contents(tmp_path) == {name: THESIS}


def test_another_model_of_that_name_stays(checkpoint: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    for other in (whole + b"\0", b"g" + whole[1:]):
        out.write_bytes(other)
        with pytest.raises(ConvertError, match=r"holds something else.*--overwrite"):
            run(checkpoint, out)
        assert contents(tmp_path) == {"out.gguf": other}
    run(checkpoint, out, overwrite=True)
    assert out.read_bytes() == whole


def test_its_own_output_is_converted_again(checkpoint: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    for _ in range(2):
        assert not run(checkpoint, out).was_whole
        assert contents(tmp_path) == {"out.gguf": whole}


@pytest.mark.parametrize("split", [None, Split(max_tensors=9)])
def test_resuming_a_finished_one_leaves_it(
    checkpoint: Path, tmp_path: Path, split: Split | None
) -> None:
    out = tmp_path / "out.gguf"
    files = run(checkpoint, out, split=split).files
    times = [file.stat().st_mtime_ns for file in files]
    report = run(checkpoint, out, split=split, resume=True)
    assert report.was_whole
    assert report.files == files
    assert [file.stat().st_mtime_ns for file in files] == times


def test_one_file_of_a_split_that_is_the_users_stops_it(checkpoint: Path, tmp_path: Path) -> None:
    split = Split(max_tensors=9)
    files = run(checkpoint, tmp_path / "out.gguf", split=split).files
    files[1].write_bytes(THESIS)
    before = contents(tmp_path)
    with pytest.raises(ConvertError, match=r"00002-of-.*: exists already"):
        run(checkpoint, tmp_path / "out.gguf", split=split)
    assert contents(tmp_path) == before


def test_a_file_that_comes_while_it_converts_stays(
    checkpoint: Path, whole: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    with pytest.raises(convert.DiskError, match=r"exists already.*--resume then ends"):
        run(checkpoint, out, progress=lambda _: out.write_bytes(THESIS))
    assert out.read_bytes() == THESIS
    out.rename(tmp_path / "thesis")
    assert run(checkpoint, out, resume=True).n_resumed > 0
    assert out.read_bytes() == whole


def test_a_journal_cannot_name_files_of_the_user(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    interrupted(checkpoint, out)
    (tmp_path / "thesis.part").write_bytes(THESIS)
    journal = journal_path(out)
    for name in ("thesis", "../thesis", f"{tmp_path}/thesis", "out-thesis.gguf"):
        lines = journal.read_text().replace('"files": ["out.gguf"]', f'"files": ["{name}"]')
        journal.write_text(lines)
        with pytest.raises(ConvertError, match="no journal of l4 lists it"):
            run(checkpoint, out)
        assert (tmp_path / "thesis.part").read_bytes() == THESIS
        journal.write_text(lines.replace(f'"files": ["{name}"]', '"files": ["out.gguf"]'))
    run(checkpoint, out)


def test_the_imatrix_is_no_output(checkpoint: Path, tmp_path: Path) -> None:
    imatrix = tmp_path / "sums.gguf"
    write_imatrix(imatrix, make_sums(convert.plan(checkpoint, "F32")))
    before = imatrix.read_bytes()
    plan = convert.plan(checkpoint, "Q4_K_M", options=TypeOptions(imatrix=imatrix))
    with pytest.raises(ConvertError, match="is the imatrix that is read"):
        convert.convert(plan, imatrix, overwrite=True)
    assert contents(tmp_path) == {"sums.gguf": before}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/dev/null", "is not a file"),
        ("/dev/stdout", "is not a file"),
        ("pipe", "is not a file"),
        ("n" * 250, "File name too long"),
        ("n" * 300, "File name too long"),
    ],
)
def test_names_that_cannot_be(checkpoint: Path, tmp_path: Path, name: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for overwrite in (False, True):
        with pytest.raises(ConvertError, match=message) as caught:
            run(checkpoint, tmp_path / name, overwrite=overwrite)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_pipe_beside_it_is_not_waited_for(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    for path in (part_path(out), journal_path(out)):
        os.mkfifo(path)
        with pytest.raises(ConvertError, match="is not a"):
            run(checkpoint, out)
        path.unlink()


def test_a_damaged_journal_costs_time_and_nothing_else(
    checkpoint: Path, whole: bytes, tmp_path: Path
) -> None:
    """Whatever a journal holds: all files are as they were, or the output has the right bytes."""
    out = tmp_path / "out.gguf"
    interrupted(checkpoint, out)
    journal, part = journal_path(out), part_path(out)
    entries, written = journal.read_bytes(), part.read_bytes()
    for seed in seeds(40):
        out.unlink(missing_ok=True)
        part.write_bytes(written)
        journal.write_bytes(damaged(entries, seed))
        before = contents(tmp_path)
        message = ""
        try:
            run(checkpoint, out, resume=True)
        except ConvertError as error:
            message = str(error)
        if message:
            assert "out.gguf.part" in message
            assert "\n" not in message
            assert contents(tmp_path) == before, seed
        else:
            assert contents(tmp_path) == {"out.gguf": whole}, seed


def other_weights(checkpoint: Path, folder: Path) -> Path:
    """A checkpoint with the name, the metadata and the shapes of `checkpoint`, of another seed."""
    return write_checkpoint(folder / checkpoint.name, seed=1, **SMALL)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("split", [None, Split(max_tensors=9)])
def test_the_same_header_over_other_weights_is_another_model(
    checkpoint: Path, tmp_path: Path, resume: bool, split: Split | None
) -> None:
    other, out = other_weights(checkpoint, tmp_path), tmp_path / "out" / "model.gguf"
    out.parent.mkdir()
    run(checkpoint, out, split=split)
    before = contents(out.parent)
    with pytest.raises(ConvertError, match=r"other weights .* -o, or replace it with --overwrite"):
        run(other, out, split=split, resume=resume)
    assert contents(out.parent) == before
    report = run(other, out, split=split, resume=resume, overwrite=True)
    assert not report.was_whole
    assert contents(out.parent).keys() == before.keys()
    assert contents(out.parent) != before


def test_one_other_byte_is_found_before_the_file_is_replaced(
    checkpoint: Path, whole: bytes, tmp_path: Path
) -> None:
    """Rows that were not compared before the work are compared before the file gets its name."""
    out, kept = tmp_path / "out.gguf", bytearray(whole)
    tensor = max(convert.plan(checkpoint, "F32").tensors, key=lambda tensor: tensor.n_bytes)
    n_header = len(whole) - convert.plan(checkpoint, "F32").tensors[-1].offset
    n_header -= convert.plan(checkpoint, "F32").tensors[-1].n_bytes
    kept[n_header + tensor.offset + 4 * tensor.shape[0]] ^= 1  # the second row
    out.write_bytes(kept)
    with pytest.raises(convert.DiskError, match=r"other weights.*--resume then ends"):
        run(checkpoint, out)
    assert out.read_bytes() == kept
    assert run(checkpoint, out, resume=True, overwrite=True).n_resumed > 0
    assert out.read_bytes() == whole


@pytest.mark.parametrize("way", ["Q8_0", "Q4_0"])
def test_a_quantized_gguf_does_not_replace_what_the_checkpoint_gave(
    tmp_path: Path, way: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", num_local_experts=2, num_hidden_layers=4)
    best, worse = tmp_path / "best.gguf", tmp_path / "worse.gguf"
    convert.convert(convert.plan(checkpoint, "Q4_K_M"), best)
    convert.convert(convert.plan(checkpoint, way), worse)
    before = best.read_bytes()
    (plan,) = convert.plan_quantize(worse, ["Q4_K_M"], requantize=True)
    with pytest.raises(ConvertError, match="other weights"):
        convert.convert(plan, best)
    assert best.read_bytes() == before
    copy = tmp_path / "copy.gguf"
    convert.convert(plan, copy)
    convert.convert(plan, copy)  # the same source and settings: the same bytes
    assert copy.read_bytes() != before
