"""After kills, full disks and Ctrl-C, a resumed conversion writes the same bytes as a fresh one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint
from decoders import write_decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from quantizer import make_sums, write_imatrix

import convert
from benchmarks.kill_convert import kill_and_resume, start_conversion
from convert import ConvertError, TypeOptions
from convert.writing import pipeline
from convert.writing.ranges import is_covered, merge, n_covered

SMALL = {"num_local_experts": 4, "num_hidden_layers": 1}
JUNK = [b"", b"\0\0\0", b'{"done": [[0, 9', b"[]\n", b'{"done": [[1]]}\n', b"{}\n"]
IN_SMALL_TILES = {"threads": 2, "ram": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("resume") / "model", **SMALL)


@pytest.fixture(scope="module", params=["checkpoint", "GGUF"])
def source(request: pytest.FixtureRequest, checkpoint: Path) -> Path:
    """The checkpoint, and a GGUF to quantize, which is resumed in the same way."""
    if request.param == "checkpoint":
        return checkpoint
    return write_base(checkpoint.with_name("base.gguf"))


def write_base(path: Path) -> Path:
    """Write a GGUF in BF16."""
    shapes = {"num_hidden_layers": 4, "hidden_size": 256}
    checkpoint = write_decoder(path.with_suffix(""), "mistral", **shapes)
    return convert.convert(convert.plan(checkpoint, "BF16"), path).path


def plan_of(source: Path, ftype: str = "F32") -> convert.Plan:
    if source.is_dir():
        return convert.plan(source, ftype)
    (plan,) = convert.plan_quantize(source, [ftype])
    return plan


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> bytes:
    out = checkpoint.with_name("whole.gguf")
    convert.convert(convert.plan(checkpoint, "F32"), out)
    return out.read_bytes()


class StopError(Exception):
    """Interrupts a conversion, in place of a kill."""


def interrupted(
    checkpoint: Path, out: Path, *, after: int = 3, ftype: str = "F32", **options: Any
) -> Path:
    """Start a conversion and stop it after `after` tiles. Return `out`."""
    seen: list[convert.Progress] = []

    def stop(progress: convert.Progress) -> None:
        seen.append(progress)
        if len(seen) == after:
            raise StopError

    plan = plan_of(checkpoint, ftype)
    with pytest.raises(StopError):
        convert.convert(plan, out, progress=stop, **IN_SMALL_TILES, **options)
    return out


def resumed(checkpoint: Path, out: Path, ftype: str = "F32", **options: Any) -> convert.Report:
    return convert.convert(plan_of(checkpoint, ftype), out, resume=True, **options)


def left(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.glob("out*"))


def test_an_interrupted_conversion_keeps_what_is_done(source: Path, tmp_path: Path) -> None:
    whole = convert.convert(plan_of(source), tmp_path / "whole.gguf").path.read_bytes()
    out = interrupted(source, tmp_path / "out.gguf")
    assert left(out) == ["out.gguf.part", "out.gguf.part.journal"]
    found = convert.leftover(out)
    assert found is not None
    assert 0 < found.n_done < found.n_bytes
    assert [file.name for file in found.files] == left(out)
    seen: list[convert.Progress] = []
    report = resumed(source, out, progress=seen.append, **IN_SMALL_TILES)
    assert report.n_resumed == found.n_done
    assert seen[0].bytes_done > found.n_done  # progress starts where the first conversion stopped
    assert out.read_bytes() == whole
    assert left(out) == ["out.gguf"]
    assert convert.leftover(out) is None


def test_without_resume_it_starts_over(checkpoint: Path, whole: bytes, tmp_path: Path) -> None:
    out = interrupted(checkpoint, tmp_path / "out.gguf")
    report = convert.convert(convert.plan(checkpoint, "F32"), out)
    assert report.n_resumed == 0
    assert out.read_bytes() == whole
    assert left(out) == ["out.gguf"]


def test_nothing_done_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plug(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "make_tiles", plug)
    with pytest.raises(KeyboardInterrupt):
        convert.convert(convert.plan(checkpoint, "F32"), tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_resuming_nothing_is_a_fresh_start(checkpoint: Path, whole: bytes, tmp_path: Path) -> None:
    resumed(checkpoint, tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == whole


def test_other_threads_and_memory_may_go_on(checkpoint: Path, whole: bytes, tmp_path: Path) -> None:
    out = interrupted(checkpoint, tmp_path / "out.gguf")
    interrupted(checkpoint, out, after=1, resume=True)
    report = resumed(checkpoint, out, threads=3, ram=64 << 20)
    assert report.n_resumed > 0
    assert out.read_bytes() == whole


@settings(max_examples=15, deadline=None)
@given(
    cut=st.floats(0, 1),
    junk=st.sampled_from(
        [b"", b"\0\0\0", b'{"done": [[0, 9', b"[]\n", b'{"done": [[1]]}\n', b"{}\n"]
    ),
)
def test_a_journal_torn_anywhere_resumes_to_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    checkpoint: Path,
    whole: bytes,
    cut: float,
    junk: bytes,
) -> None:
    out = interrupted(checkpoint, tmp_path_factory.mktemp("torn") / "out.gguf", after=2)
    journal = out.with_name("out.gguf.part.journal")
    lines = journal.read_bytes()
    header = lines.index(b"\n") + 1  # on the disk before the part files are made
    journal.write_bytes(lines[: max(header, int(len(lines) * cut))] + junk)
    resumed(checkpoint, out)
    assert out.read_bytes() == whole
    assert left(out) == ["out.gguf"]


def copy_of(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "model"))


def touch_shard(path: Path) -> None:
    os.utime(next(path.glob("*.safetensors")), (1, 1))


def edit_config(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (touch_shard, r"begun with model-0000\d-of-00002\.safetensors .* changed 1000000000"),
        (edit_config, "begun with metadata and types"),
    ],
)
def test_a_changed_source_is_refused(
    change: Callable[[Path], None], difference: str, checkpoint: Path, tmp_path: Path
) -> None:
    source = copy_of(checkpoint, tmp_path)
    out = interrupted(source, tmp_path / "out.gguf")
    change(source)
    with pytest.raises(ConvertError, match=difference):
        resumed(source, out)
    assert left(out) == ["out.gguf.part", "out.gguf.part.journal"]  # can still be resumed


def test_a_changed_gguf_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base.gguf")
    out = interrupted(base, tmp_path / "out.gguf")
    os.utime(base, (1, 1))
    with pytest.raises(ConvertError, match=r"begun with base\.gguf .* changed 1000000000"):
        resumed(base, out)
    assert left(out) == ["out.gguf.part", "out.gguf.part.journal"]  # can still be resumed


def test_another_imatrix_of_that_name_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    sums = make_sums(convert.plan(checkpoint, "F32"))
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", sums)
    plan = convert.plan(checkpoint, "Q4_K_M", options=TypeOptions(imatrix))
    out, whole = tmp_path / "out.gguf", tmp_path / "whole.gguf"
    convert.convert(plan, whole)

    def stop(progress: convert.Progress) -> None:
        if progress.bytes_done > progress.bytes_total // 2:
            raise StopError

    with pytest.raises(StopError):
        convert.convert(plan, out, progress=stop, **IN_SMALL_TILES)
    write_imatrix(imatrix, {name: (2 * each, counts) for name, (each, counts) in sums.items()})
    again = convert.plan(checkpoint, "Q4_K_M", options=TypeOptions(imatrix))
    with pytest.raises(ConvertError, match=r"begun with imatrix imatrix\.gguf .*now it is"):
        convert.convert(again, out, resume=True)
    write_imatrix(imatrix, sums)
    assert convert.convert(plan, out, resume=True).n_resumed
    assert out.read_bytes() == whole.read_bytes()


def test_another_type_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    out = interrupted(checkpoint, tmp_path / "out.gguf")
    with pytest.raises(ConvertError, match="begun with type F32, now it is Q8_0") as caught:
        resumed(checkpoint, out, "Q8_0")
    assert "start over without --resume" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda part: part.unlink(), "is gone"),
        (lambda part: part.write_bytes(b"x"), "1 bytes long"),
    ],
)
def test_a_damaged_part_is_refused(
    damage: Callable[[Path], object], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    out = interrupted(checkpoint, tmp_path / "out.gguf")
    damage(out.with_name("out.gguf.part"))
    with pytest.raises(ConvertError, match=message):
        resumed(checkpoint, out)


def test_killed_between_the_last_byte_and_the_name(
    checkpoint: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.gguf"
    for step in ("replace", "unlink"):  # first the part file is renamed, then the journal removed
        with monkeypatch.context() as patch:
            patch.setattr(Path, step, lambda *_, **__: (_ for _ in ()).throw(StopError))
            with pytest.raises(StopError):
                resumed(checkpoint, out)
        assert "out.gguf.part.journal" in left(out)
    monkeypatch.setattr(pipeline, "make_tiles", lambda *_: pytest.fail("made again"))
    resumed(checkpoint, out)
    assert out.read_bytes() == whole
    assert left(out) == ["out.gguf"]


def test_a_failed_sync_is_never_taken_back(
    checkpoint: Path, whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reports a lost page only once, so nothing is recorded after a failed sync."""
    out = tmp_path / "out.gguf"
    calls: list[int] = []

    def sync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(pipeline, "SECONDS_BETWEEN_SAVES", 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", sync)
        with pytest.raises(ConvertError, match="Input/output error"):
            convert.convert(convert.plan(checkpoint, "F32"), out, **IN_SMALL_TILES)
    assert len(calls) == 2
    assert convert.leftover(out) is not None
    resumed(checkpoint, out)
    assert out.read_bytes() == whole


def test_a_disk_that_fills_up_midway(
    source: Path, mounted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file system reserves no space, like those that copy on write."""
    subprocess.run(["mount", "-o", "remount,size=12m", str(mounted)], check=True)
    monkeypatch.setattr(os, "posix_fallocate", lambda fd, _, length: os.ftruncate(fd, length))
    plan, out = plan_of(source), mounted / "out.gguf"
    filler = mounted / "filler"
    filler.write_bytes(bytes(9 << 20))
    assert plan.n_bytes > 4 << 20
    with pytest.raises(ConvertError, match="the disk is full"):
        convert.convert(plan, out, **IN_SMALL_TILES)
    assert left(out) == ["out.gguf.part", "out.gguf.part.journal"]
    filler.unlink()
    report = resumed(source, out)
    assert report.n_resumed > 0
    convert.convert(plan, tmp_path / "fresh.gguf")
    assert out.read_bytes() == (tmp_path / "fresh.gguf").read_bytes()


def test_kill_9_at_random_moments(source: Path, tmp_path: Path) -> None:
    result = kill_and_resume(source, tmp_path / "out.gguf", "Q4_K_M", kills=3, seed=1)
    assert result.kills == 3
    assert result.is_same


def test_ctrl_c_tells_how_to_go_on(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    process = start_conversion(checkpoint, out, "F32", slow=True)
    journal = out.with_name("out.gguf.part.journal")
    while process.poll() is None and not (journal.exists() and b'"done"' in journal.read_bytes()):
        time.sleep(0.01)
    assert convert.leftover(out) is None  # the conversion is still running
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume goes on" in errors
    assert f"delete {journal.with_suffix('')} and {journal}" in errors
    assert left(out) == ["out.gguf.part", "out.gguf.part.journal"]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=12))
def test_ranges_are_sets_of_bytes(pairs: list[tuple[int, int]]) -> None:
    ranges = [(start, start + length) for start, length in pairs]
    expected = {byte for start, end in ranges for byte in range(start, end)}
    merged = merge(ranges)
    assert {byte for start, end in merged for byte in range(start, end)} == expected
    assert n_covered(ranges) == len(expected)
    for start in range(0, 50, 7):
        assert is_covered(merged, start, start + 3) == (set(range(start, start + 3)) <= expected)
