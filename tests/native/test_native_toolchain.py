"""The test of the C++ compiler, and the set-up that builds llama.cpp with its result."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest
from conftest import ROOT

from l4cli.native import cpu, wheel
from l4cli.native.toolchain import KEEP_STORES, NO_AMX, Toolchain, Verdict, examine


def compiler(folder: Path, name: str, script: str) -> str:
    """A fake compiler, a shell script. $OUT is the output file, $ALL are all its arguments."""
    path = folder / name
    path.write_text(
        "#!/bin/sh\n"
        'ALL="$*"\n'
        'case "$ALL" in *--version*) echo "fake c++ 1.2.3"; exit 0;; esac\n'
        'while [ $# -gt 0 ]; do [ "$1" = -o ] && OUT=$2; shift; done\n'
        'program() { printf \'#!/bin/sh\\n%s\\n\' "$1" > "$OUT"; chmod +x "$OUT"; }\n' + script
    )
    path.chmod(0o755)
    return str(path)


def test_the_compiler_at_hand_can_build_llama_cpp() -> None:
    found = examine()
    assert found.can_build
    assert found.verdict in (Verdict.FINE, Verdict.KEEPS_STORES, Verdict.WITHOUT_AMX)
    assert found.version
    assert found.problem is None


@pytest.mark.parametrize(
    ("kept_by", "verdict", "flags"),
    [
        ("*", Verdict.FINE, ()),
        ("*-fno-tree-dse*", Verdict.KEEPS_STORES, KEEP_STORES),
        ("*-mno-amx-tile*", Verdict.WITHOUT_AMX, NO_AMX),
        ("nothing", Verdict.UNKNOWN, ()),
    ],
)
@pytest.mark.parametrize("fault", ["kill -SEGV $$", "kill -ILL $$", "exit 3"])
def test_flags_are_added_until_the_probe_runs(
    tmp_path: Path, kept_by: str, verdict: Verdict, flags: tuple[str, ...], fault: str
) -> None:
    script = f'case "$ALL" in {kept_by}) program "exit 0";; *) program "{fault}";; esac\n'
    script = script.replace("$$", "\\$\\$")
    found = examine(compiler(tmp_path, "c++", script))
    assert (found.verdict, found.flags) == (verdict, flags)
    assert found.version == "fake c++ 1.2.3"
    (args,) = shlex.split(found.cmake_args) or [""]
    assert args == (f"-DCMAKE_CXX_FLAGS={' '.join(flags)}" if flags else "")


def test_a_compiler_that_lacks_a_flag_gets_the_next(tmp_path: Path) -> None:
    script = (
        'case "$ALL" in *-fno-dse*) echo "error: no such flag" >&2; exit 1;;\n'
        '*-mno-amx*) program "exit 0";; *) program "exit 3";; esac\n'
    )
    assert examine(compiler(tmp_path, "c++", script)).verdict is Verdict.WITHOUT_AMX


def test_a_compiler_without_cpp_17_is_told_of(tmp_path: Path) -> None:
    script = 'echo "error: unrecognized command line option -std=c++17" >&2; exit 1\n'
    found = examine(compiler(tmp_path, "c++", script))
    assert not found.can_build
    assert found.problem
    assert "cannot compile C++17" in found.problem
    assert "unrecognized command line option" in found.problem


def test_no_compiler_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    found = examine()
    assert found.verdict is Verdict.NO_COMPILER
    assert found.problem
    assert "build-essential" in found.problem
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert examine().verdict is Verdict.NO_COMPILER


def test_the_documented_line_gives_cmake_its_flags(tmp_path: Path) -> None:
    script = 'case "$ALL" in *-fno-dse*) program "exit 0";; *) program "exit 3";; esac\n'
    env = {**os.environ, "CXX": compiler(tmp_path, "c++", script)}
    line = f'CMAKE_ARGS="$({sys.executable} -m l4cli.native.toolchain)"; printf %s "$CMAKE_ARGS"'
    said = subprocess.run(
        ["sh", "-c", line], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shlex.split(said.stdout) == ["-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse"]


def test_a_wheel_is_for_one_processor_compiler_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    plain = Toolchain("c++", "gcc 12.2", Verdict.FINE)
    mended = Toolchain("c++", "gcc 12.2", Verdict.KEEPS_STORES, KEEP_STORES)
    other = Toolchain("c++", "gcc 13.3", Verdict.FINE)
    keys = {wheel.recipe_of("0.3.36", each).key for each in (plain, mended, other)}
    keys.add(wheel.recipe_of("0.3.37", plain).key)
    monkeypatch.setattr(wheel, "cpu_key", lambda: "another processor")
    keys.add(wheel.recipe_of("0.3.36", plain).key)
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    keys.add(wheel.recipe_of("0.3.36", plain).key)
    assert len(keys) == 6


_BACKEND = """
import os, sys, zipfile

def build_wheel(directory, settings=None, metadata=None):
    for n in range(1, 4):
        print(f"[{n}/3] compiling", flush=True)
    if "BROKEN" in os.environ.get("CMAKE_ARGS", ""):
        sys.exit("fatal error: no such header")
    name = "llama_cpp_python-0.3.36-py3-none-any.whl"
    info = "llama_cpp_python-0.3.36.dist-info"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as file:
        file.writestr("llama_cpp/__init__.py", "flags = " + repr(os.environ.get("CMAKE_ARGS")))
        about = "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.3.36\\n"
        file.writestr(f"{info}/METADATA", about)
        about = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        file.writestr(f"{info}/WHEEL", about)
        file.writestr(f"{info}/RECORD", "")
    return name
"""
_PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "llama-cpp-python"
version = "0.3.36"
"""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake llama-cpp-python that compiles in no time, and a lock file that pins it."""
    source = tmp_path / "llama_cpp_python-0.3.36"
    source.mkdir()
    (source / "backend.py").write_text(_BACKEND)
    (source / "pyproject.toml").write_text(_PYPROJECT)
    (source / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.3.36\n"
    )
    with tarfile.open(tmp_path / f"{source.name}.tar.gz", "w:gz") as file:
        file.add(source, source.name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==2.0\nllama-cpp-python==0.3.36\n")
    return lock


def set_up(environment: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    if not environment.exists():
        venv.create(environment, with_pip=True, symlinks=True)
    command = [environment / "bin" / "python", "-m", "l4cli.native.wheel", "--lock", lock]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_llama_cpp_is_built_once_for_a_machine(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = set_up(tmp_path / "one", index)
    assert first.returncode == 0, first.stderr
    assert "compiling llama.cpp" in first.stderr
    assert "this happens once and takes about" in first.stderr
    assert "compiled in" in first.stderr
    again = set_up(tmp_path / "one", index)
    assert (again.returncode, again.stderr) == (0, "")
    other = set_up(tmp_path / "two", index)
    assert (other.returncode, "compiled here before" in other.stderr) == (0, True)
    assert "compiling" not in other.stderr
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    changed = set_up(tmp_path / "two", index)
    assert "compiling llama.cpp" in changed.stderr
    built = next((tmp_path / "two").glob("lib/python*/site-packages/llama_cpp/__init__.py"))
    assert "-DGGML_CUDA=on" in built.read_text()
    assert "CMAKE_PROJECT_INCLUDE" in built.read_text()


@pytest.mark.slow
def test_a_build_that_fails_shows_the_compilers_last_words(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DBROKEN=1")
    failed = set_up(tmp_path / "one", index)
    assert failed.returncode == 2
    assert "fatal error: no such header" in failed.stderr
    found = re.search(r"llama.cpp could not be compiled; the whole log is in (.*)", failed.stderr)
    assert found
    assert "[1/3] compiling" in Path(found[1]).read_text()
    assert "Traceback" not in failed.stderr


def test_a_lock_without_a_pin_is_told_of(index: Path) -> None:
    index.write_text("numpy==2.0\n")
    with pytest.raises(wheel.WheelError, match="does not pin llama-cpp-python"):
        wheel.install(index)


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_only_the_next_build(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = set_up(tmp_path / "one", index)
    assert done.returncode == 0, done.stderr
    assert "compiled in" in done.stderr


@pytest.mark.slow
def test_a_cache_with_a_space_in_its_name(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my caches"))
    done = set_up(tmp_path / "one", index)
    assert done.returncode == 0, done.stderr
    built = next((tmp_path / "one").glob("lib/python*/site-packages/llama_cpp/__init__.py"))
    (argument,) = shlex.split(ast.literal_eval(built.read_text().partition(" = ")[2]))
    assert argument.endswith("leave_out.cmake")


@pytest.mark.slow
def test_a_build_stays_when_the_compiler_is_taken_away(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set_up(tmp_path / "one", index).returncode == 0
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    again = set_up(tmp_path / "one", index)
    assert (again.returncode, again.stderr) == (0, "")
    other = set_up(tmp_path / "two", index)
    assert other.returncode == 2
    assert "there is no C++ compiler" in other.stderr


def test_nonsense_in_cxx_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", '"g++')
    assert examine().verdict is Verdict.NO_COMPILER


def test_half_a_core_is_half_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    assert cpu.usable_cores() >= 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert cpu.usable_cores() == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu.usable_cores() >= 1
    (tmp_path / "cpu.max").write_text("nonsense\n")
    assert cpu.usable_cores() >= 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("25000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cpu.usable_cores() == 0.25


def test_without_proc_the_processor_has_a_name_and_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "none")
    functions = (cpu.cpu_model, cpu.cpu_features, cpu.cpu_key, cpu._entry)
    for function in functions:
        function.cache_clear()
    assert cpu.cpu_features() == frozenset()
    assert cpu.cpu_key()
    for function in functions:
        function.cache_clear()
