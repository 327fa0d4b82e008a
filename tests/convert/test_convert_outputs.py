"""Several types in one pass, split files, and estimates."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from checkpoints import write_checkpoint, write_hollow_checkpoint
from quantizer import make_sums, write_imatrix

import convert
from convert import ConvertError, Split, TypeOptions, estimation
from convert.checkpoint.checkpoint import Reader
from convert.writing import pipeline

SMALL = {"num_local_experts": 4, "num_hidden_layers": 2}
TYPES = ("F16", "Q4_K_M", "Q8_0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("outputs") / "model", **SMALL)


def one_by_one(checkpoint: Path, ftype: str, out: Path) -> bytes:
    convert.convert(convert.plan(checkpoint, ftype), out, overwrite=True)
    return out.read_bytes()


def test_several_types_read_the_source_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_read: list[int] = []

    def count(name: str) -> None:
        read = getattr(Reader, name)

        def counted(*args: Any) -> None:
            n_read.append(len(args[-1]))
            read(*args)

        monkeypatch.setattr(Reader, name, counted)

    count("read_into")
    count("read_pieces")
    planned = [(convert.plan(checkpoint, type_), tmp_path / f"{type_}.gguf") for type_ in TYPES]
    seen: list[convert.Progress] = []
    reports = convert.convert_all(planned, progress=seen.append)
    weights = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
    assert sum(n_read) < weights
    assert seen[-1].bytes_done == seen[-1].bytes_total
    for type_, report in zip(TYPES, reports, strict=True):
        assert report.path.read_bytes() == one_by_one(checkpoint, type_, tmp_path / "alone.gguf")
        assert report.n_bytes == report.path.stat().st_size


def test_several_types_each_with_what_the_imatrix_has_on_them(
    checkpoint: Path, tmp_path: Path
) -> None:
    sums = make_sums(convert.plan(checkpoint, "F32"))
    options = TypeOptions(write_imatrix(tmp_path / "imatrix.gguf", sums))
    plans = convert.plan_all(checkpoint, ["Q2_K", "q4_0", "F16"], options=options)
    reports = convert.convert_all([(plan, tmp_path / plan.ftype) for plan in plans])
    for plan, report in zip(plans, reports, strict=True):
        alone = convert.plan(checkpoint, plan.ftype, options=options)
        convert.convert(alone, tmp_path / "alone.gguf", overwrite=True)
        assert report.path.read_bytes() == (tmp_path / "alone.gguf").read_bytes()


def test_one_of_several_types_may_be_ahead(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output has its own journal, and a tile is made only for the outputs that lack it."""
    planned = [(convert.plan(checkpoint, type_), tmp_path / f"{type_}.gguf") for type_ in TYPES]
    options = {"threads": 1, "ram": 1}

    def stop(progress: convert.Progress) -> None:
        if progress.bytes_done > progress.bytes_total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert.convert_all(planned, progress=stop, **options)
    journal = tmp_path / "Q8_0.gguf.part.journal"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    assert {path.suffix for path in tmp_path.iterdir()} == {".part", ".journal"}
    reports = convert.convert_all(planned, resume=True, **options)
    assert [report.n_resumed > 0 for report in reports] == [True, True, False]
    for type_, report in zip(TYPES, reports, strict=True):
        assert report.path.read_bytes() == one_by_one(checkpoint, type_, tmp_path / "alone.gguf")


def test_one_output_refused_costs_the_others_nothing(checkpoint: Path, tmp_path: Path) -> None:
    def stop(_: convert.Progress) -> None:
        raise KeyboardInterrupt

    planned = [(convert.plan(checkpoint, type_), tmp_path / f"{type_}.gguf") for type_ in TYPES]
    with pytest.raises(KeyboardInterrupt):
        convert.convert_all(planned, progress=stop)
    before = sorted(tmp_path.iterdir())
    (tmp_path / "Q8_0.gguf.part").write_bytes(b"damaged")  # the output that is opened last
    with pytest.raises(ConvertError, match="7 bytes long"):
        convert.convert_all(planned, resume=True)
    assert sorted(tmp_path.iterdir()) == before


def test_two_outputs_of_one_name_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    with pytest.raises(ConvertError, match="written twice"):
        convert.convert_all([(plan, tmp_path / "a.gguf"), (plan, tmp_path / "a.gguf")])


@pytest.mark.parametrize("split", [Split(max_bytes=600_000), Split(max_tensors=7)])
def test_a_split_holds_the_same_tensors(split: Split, checkpoint: Path, tmp_path: Path) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    whole = gguf.GGUFReader(convert.convert(plan, tmp_path / "whole.gguf").path)
    report = convert.convert(plan, tmp_path / "out.gguf", split=split)
    n = len(report.files)
    assert n > 2
    assert [file.name for file in report.files] == [
        f"out-{i + 1:05}-of-{n:05}.gguf" for i in range(n)
    ]
    assert report.n_bytes == sum(file.stat().st_size for file in report.files)
    assert not list(tmp_path.glob("*.part*"))
    readers = [gguf.GGUFReader(file) for file in report.files]
    for index, reader in enumerate(readers):
        values = {key: field.contents() for key, field in reader.fields.items()}
        assert values["split.no"] == index
        assert values["split.count"] == n
        assert values["split.tensors.count"] == len(whole.tensors)
        assert ("general.architecture" in values) == (index == 0)
        if split.max_bytes:
            assert sum(int(tensor.n_bytes) for tensor in reader.tensors) <= split.max_bytes
        else:
            assert len(reader.tensors) <= 7
    parts = [tensor for reader in readers for tensor in reader.tensors]
    assert [tensor.name for tensor in parts] == [tensor.name for tensor in whole.tensors]
    for ours, theirs in zip(parts, whole.tensors, strict=True):
        assert ours.tensor_type == theirs.tensor_type
        assert ours.data.tobytes() == theirs.data.tobytes()
    assert convert.verify(plan, report.path).is_fine


def test_a_damaged_split_file_is_noticed(checkpoint: Path, tmp_path: Path) -> None:
    plan = convert.plan(checkpoint, "Q8_0")
    report = convert.convert(plan, tmp_path / "out.gguf", split=Split(max_tensors=7))
    with report.files[-1].open("rb+") as file:
        file.seek(-100_000, os.SEEK_END)
        file.write(b"\x11" * 100_000)
    assert not convert.verify(plan, report.path).is_fine
    report.files[-1].unlink()
    with pytest.raises(ConvertError, match=report.files[-1].name):
        convert.verify(plan, report.path)
    with pytest.raises(ConvertError, match="rename it like the others, with 00001"):
        convert.verify(plan, shutil.move(report.path, tmp_path / "renamed.gguf"))


def test_split_files_are_resumed_too(checkpoint: Path, tmp_path: Path) -> None:
    plan, split = convert.plan(checkpoint, "Q8_0"), Split(max_tensors=7)
    expected = [f.read_bytes() for f in convert.convert(plan, tmp_path / "a", split=split).files]

    def stop(_: convert.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert.convert(plan, tmp_path / "b", split=split, progress=stop)
    report = convert.convert(plan, tmp_path / "b", split=split, resume=True)
    assert report.n_resumed > 0
    assert [file.read_bytes() for file in report.files] == expected
    with pytest.raises(KeyboardInterrupt):
        convert.convert(plan, tmp_path / "b", split=split, progress=stop)
    convert.convert(plan, tmp_path / "b")  # as one file; this removes the split files' parts, too
    assert not list(tmp_path.glob("*.part*"))


def test_a_tensor_larger_than_a_file_may_be(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"takes 278,528 bytes, more than a file of 100,000"):
        convert.convert(
            convert.plan(checkpoint, "Q8_0"), tmp_path / "out", split=Split(max_bytes=100_000)
        )


def test_an_estimate_is_exact_on_disk(checkpoint: Path, tmp_path: Path) -> None:
    planned = [(convert.plan(checkpoint, type_), tmp_path / f"{type_}.gguf") for type_ in TYPES]
    split = Split(max_tensors=7)
    estimate = convert.estimate(planned, split=split)
    reports = convert.convert_all(planned, split=split)
    assert estimate.n_bytes == tuple(report.n_bytes for report in reports)
    assert estimate.disk == sum(estimate.n_bytes)
    assert estimate.seconds > 0


def test_an_estimate_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = write_hollow_checkpoint(tmp_path / "model")  # Scout's shapes, 218 GB
    monkeypatch.setattr(pipeline, "make_tiles", lambda *_: pytest.fail("weights were read"))
    monkeypatch.setattr(estimation, "held", lambda: 150 << 20)  # not what other tests have left
    planned = [(convert.plan(checkpoint, "Q4_K_M"), tmp_path / "out.gguf")]
    estimate = convert.estimate(planned, threads=2)
    assert 60e9 < estimate.disk < 70e9
    assert estimate.ram < 1e9
    assert 900 < estimate.seconds < 1800  # with `kquants`
    monkeypatch.setattr(estimation, "has_lanes", lambda: False)
    assert 1800 < convert.estimate(planned, threads=2).seconds < 7200
