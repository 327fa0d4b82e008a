"""The output is complete or absent, whatever happens, and memory use is bounded."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from checkpoints import write_checkpoint, write_hollow_checkpoint
from conftest import ROOT

import convert
from convert import ConvertError

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}
BEFORE = "what was there before"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model", **SMALL)


def refused(checkpoint: Path, out: Path, **options: Any) -> str:
    with pytest.raises(ConvertError) as caught:
        convert.convert(convert.plan(checkpoint, "Q8_0"), out, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


STALLED = """
import sys, time, convert
def stall(progress):
    print("working", flush=True)
    time.sleep(60)
plan = convert.plan(sys.argv[1], "F32")
convert.convert(plan, sys.argv[2], overwrite=True, ram=1, progress=stall)
"""


def test_kill_9_leaves_nothing_under_the_final_name(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_text(BEFORE)
    process = start(STALLED, checkpoint, out)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.kill()
    process.communicate()
    assert out.read_text() == BEFORE
    plan = convert.plan(checkpoint, "F32")
    convert.convert(plan, out, overwrite=True)  # and the part file of the killed conversion
    fresh = convert.convert(plan, tmp_path / "fresh.gguf").path
    assert out.read_bytes() == fresh.read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*.gguf*")) == ["fresh.gguf", "out.gguf"]


def test_two_conversions_into_one_file_do_not_mix(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    process = start(STALLED, checkpoint, out)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert "another conversion is writing it" in refused(checkpoint, out)
    assert convert.leftover(out) is None
    assert (tmp_path / "out.gguf.part").exists()
    process.kill()
    process.communicate()


def test_an_existing_output_is_replaced_if_asked_for(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_text(BEFORE)
    report = convert.convert(convert.plan(checkpoint, "Q8_0"), out, overwrite=True)
    assert out.read_bytes()[:4] == b"GGUF"
    assert report.n_bytes == out.stat().st_size
    assert report.seconds > 0


def test_a_disk_too_small_is_noticed_before_the_work(checkpoint: Path, mounted: Path) -> None:
    message = refused(checkpoint, mounted / "out.gguf")
    assert "the disk is full" in message
    assert "0.2 MiB are free" in message
    assert not list(mounted.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "fsync"])
def test_a_disk_that_fills_up_is_one_clear_line(
    call: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out.gguf"
    out.write_text(BEFORE)
    monkeypatch.setattr(os, call, full)
    assert "the disk is full" in refused(checkpoint, out, overwrite=True)
    assert out.read_text() == BEFORE
    assert not list(tmp_path.glob("*.part"))


def test_a_read_only_directory(checkpoint: Path, tmp_path: Path) -> None:
    directory = tmp_path / "locked"
    directory.mkdir(mode=0o555)
    if os.access(directory, os.W_OK):
        pytest.skip("root may write everywhere")
    assert "Permission denied" in refused(checkpoint, directory / "out.gguf")


def test_a_read_only_file_system(checkpoint: Path, mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert "Read-only file system" in refused(checkpoint, mounted / "out.gguf")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model", "own directory"),
        ("model/out.gguf", "own directory"),
        ("model/../model/model.safetensors", "own directory"),
        ("taken", "is not a file"),
        ("nowhere/out.gguf", "no such directory"),
    ],
)
def test_impossible_outputs(name: str, message: str, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(checkpoint, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


FLAT = """
import sys, convert
plan = convert.plan(sys.argv[1], "Q8_0")
print(convert.convert(plan, sys.argv[2], threads=2, ram=64 << 20).peak_rss)
"""


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    # The checkpoint has half a gigabyte; one fused tensor alone has 268 MB.
    shapes = {"hidden_size": 2048, "intermediate_size": 2048, "num_hidden_layers": 1}
    checkpoint = write_hollow_checkpoint(tmp_path / "model", shapes=shapes)
    process = start(FLAT, checkpoint, tmp_path / "out.gguf")
    peak, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    baseline = 48 << 20  # Python, numpy, gguf
    assert int(peak) < baseline + (64 << 20)
