"""The self-test of llama.cpp: its outcome, the file that keeps it, its messages, its effects."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import L4, cache_home
from native_fault import EVERYTHING, EXTRA_BUFFERS, fault_library

from l4cli.native import selftest
from l4cli.native.selftest import judge

LIBRARY = {"step": "library", "version": "0.3.36"}
BRIEFLY = ("-n", "2", "--temperature", "0")
CUT_OFF = "l4: the answer was cut off"  # must be the first line on stderr
FINE = [
    LIBRARY,
    *({"step": step, "ok": True} for step in ("defaults", "plain", "extra", "states", "moving")),
]


def said(*steps: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(step)}\n" for step in steps)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fault_library(tmp_path_factory.mktemp("fault"))


@pytest.fixture
def broken(library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A function that makes llama.cpp crash at a given place in every later command."""

    def crash_at(place: str) -> None:
        (cache_home() / "l4" / "selftest.json").unlink(missing_ok=True)
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("L4_TEST_FAULT", place)

    return crash_at


def test_a_good_build_is_fine_and_that_is_kept(l4: L4, tmp_path: Path) -> None:
    kept = cache_home() / "l4" / "selftest.json"
    kept.unlink()
    answered = l4("chat", "-p", "hi")
    assert answered.returncode == 0
    (found,) = json.loads(kept.read_text()).values()
    assert found["loads"]
    assert found["extra_buffers"]
    assert found["states"]
    assert found["moving"]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["chat", "-p", "hi"], "demo model"),
        (["run", "prompts.jsonl"], '"text"'),
        pytest.param(["ask", "notes.txt", "-q", "What is it?"], "", marks=pytest.mark.slow),
        pytest.param(
            ["bench", "demo", "--seconds", "1", "--depth", "0", "--repeat", "1"],
            "prefill",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_crash_with_repacked_weights_costs_one_warning(
    l4: L4, broken: Any, tmp_path: Path, command: list[str], shown: str
) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "hi", "max_tokens": 4}\n')
    (tmp_path / "notes.txt").write_text("It is a pump.\n")
    broken(EXTRA_BUFFERS)
    answered = l4(*command, cwd=tmp_path)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.strip()
    assert shown in answered.stdout
    assert answered.stderr.count("with repacked weights on this machine") == 1
    assert "crashes (SIGILL)" in answered.stderr


def test_a_build_for_another_processor_is_one_line_and_exit_code_2(l4: L4, broken: Any) -> None:
    broken(EVERYTHING)
    for _ in range(2):
        answered = l4("chat", "-p", "hi")
        assert answered.returncode == 2
        (line,) = answered.stderr.splitlines()
        assert "crashes (SIGILL) on this processor" in line
        assert "l4 doctor" in line


@pytest.mark.slow
def test_what_does_not_run_is_tried_again_at_the_next_start(
    l4: L4, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(EVERYTHING)
    assert l4("chat", "-p", "hi").returncode == 2
    monkeypatch.delenv("LD_PRELOAD")
    assert l4("chat", "-p", "hi").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "nonsense", "[1, 2]", '{"key": {"loads": "maybe"}}', "{}"])
def test_a_damaged_record_of_it_is_made_anew(l4: L4, tmp_path: Path, content: str) -> None:
    kept = cache_home() / "l4" / "selftest.json"
    kept.write_text(content)
    answered = l4("chat", "-p", "hi")
    assert (answered.returncode, "selftest" in answered.stderr) == (0, False)
    assert any(found["loads"] for found in json.loads(kept.read_text()).values())


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    l4: L4, tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    answered = l4("chat", "-p", "hi", "-m", tiny_gguf, *BRIEFLY)
    assert answered.returncode == 0
    assert answered.stderr.startswith(CUT_OFF)


@pytest.mark.slow
def test_two_starts_at_once_both_answer(tmp_path: Path, tiny_gguf: Path) -> None:
    (cache_home() / "l4" / "selftest.json").unlink()
    command = [sys.executable, "-m", "l4cli", "chat", "-p", "hi", "-m", str(tiny_gguf), *BRIEFLY]
    both = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert all(stderr.startswith(CUT_OFF) for _, stderr in ends)


@pytest.mark.slow
def test_no_room_for_temporary_files_is_nothing_against_the_build(
    l4: L4, tmp_path: Path, tiny_gguf: Path, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mounted / "filler").write_bytes(bytes(200_000))
    (cache_home() / "l4" / "selftest.json").unlink()
    monkeypatch.setenv("TMPDIR", str(mounted))
    answered = l4("chat", "-p", "hi", "-m", tiny_gguf, *BRIEFLY)
    assert answered.returncode == 0
    assert answered.stderr.startswith(CUT_OFF)


def test_wrong_sums_are_told_from_right_ones() -> None:
    wrong = judge(said(*FINE[:3], {"step": "extra", "ok": False, "nmse": 1.2}, *FINE[4:]), 0)
    assert not wrong.extra_buffers
    assert wrong.loads
    assert wrong.states
    assert wrong.moving
    assert wrong.warning
    assert "computes wrong sums with repacked weights" in wrong.warning
    assert judge(said(*FINE), 0).warning is None


def test_where_the_child_dies_tells_what_crashes() -> None:
    assert judge(said(*FINE[:2]), -signal.SIGSEGV).reason == "crashes (SIGSEGV)"
    assert not judge(said(*FINE[:2]), -signal.SIGSEGV).loads
    behind_plain = judge(said(*FINE[:3]), -signal.SIGILL)
    assert behind_plain.loads
    assert not behind_plain.extra_buffers
    assert behind_plain.is_certain
    killed = judge(said(*FINE[:3]), -signal.SIGKILL)
    assert not killed.extra_buffers
    assert not killed.is_certain
    hanging = judge(said(*FINE[:3]), None)
    assert "hangs" in hanging.reason
    assert not hanging.extra_buffers


def test_what_is_the_machines_doing_is_nothing_against_the_build() -> None:
    """After a lack of memory, time or disk space, this start goes on; the next one tests again."""
    for exit_code in (-signal.SIGKILL, None, 1):
        found = judge(said(*FINE[:1]), exit_code, "OSError: No space left on device")
        assert found.is_fine
        assert not found.is_certain
    steps = [*FINE[:3], {"step": "extra", "ok": False, "error": "ModelLoadError: out of memory"}]
    found = judge(said(*steps, *FINE[4:]), 0)
    assert "out of memory" in found.reason
    assert not found.is_certain


def test_a_library_that_cannot_be_loaded_says_why() -> None:
    error = "OSError: libcudart.so.13: cannot open shared object file"
    found = judge(said({"step": "library", "error": error}), 0)
    assert not found.loads
    assert error in found.reason


def test_another_llama_cpp_is_switched_off_where_it_differs() -> None:
    steps = [*FINE[:4], {"step": "states", "ok": False}, {"step": "moving", "ok": False}]
    found = judge(said(*steps), 0)
    assert not found.states
    assert not found.moving
    assert found.extra_buffers
    assert found.warning
    assert "fails a test that l4 relies on" in found.warning


def test_states_that_cannot_be_trusted_are_not_kept(
    l4: L4, tmp_path: Path, self_test: str, tiny_gguf: Path
) -> None:
    kept = cache_home() / "l4" / "selftest.json"
    ((key, found),) = json.loads(self_test).items()
    kept.write_text(json.dumps({key: {**found, "states": False}}))
    (tmp_path / "notes.txt").write_text("It is a pump.\n")
    answered = l4("ask", tmp_path / "notes.txt", "-q", "What?", "-m", tiny_gguf, *BRIEFLY)
    assert answered.returncode == 0
    assert "l4 does not keep the reading cache" in answered.stderr
    assert not (cache_home() / "l4" / "prefixes").exists()


def test_the_flag_of_the_child_is_not_for_others(tmp_path: Path) -> None:
    """Inside the child no further self-test starts: otherwise children would start forever."""
    code = "from l4cli.native.selftest import outcome; print(outcome().is_fine)"
    env = {**os.environ, selftest.IN_CHILD: "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.strip() == b"True"
