"""`l4 doctor`: the facts and problems it reports, even if all else is broken, and the remedies."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from conftest import L4, cache_home
from native_fault import EVERYTHING, EXTRA_BUFFERS, fault_library
from terminal import Terminal

from l4cli.doctor import folders, machine
from l4cli.doctor.facts import Facts, Settings, Variable
from l4cli.doctor.folders import Entry, Folder, Size
from l4cli.doctor.machine import Cpu, Graphics, Memory, NvidiaCard, System
from l4cli.doctor.problems import Problem, problems
from l4cli.doctor.software import Software, Trial
from l4cli.models.hub.reach import Reach, reach
from l4cli.native import build
from l4cli.native.build import TESTED_VERSION, Build
from l4cli.native.rebuild import CUDA, Installer
from l4cli.native.selftest import Outcome
from l4cli.native.toolchain import KEEP_STORES, NO_AMX, Toolchain, Verdict

pytestmark = pytest.mark.slow

CLOSED = "http://127.0.0.1:9"  # no server listens here

Doctor = Callable[..., "tuple[int, dict[str, Any]]"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", CLOSED)
    for name in ("CXX", "CMAKE_ARGS", "NO_COLOR", "CUDA_VISIBLE_DEVICES", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bare_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, empty: no compiler and no driver is found unless a test adds one."""
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    return path


@pytest.fixture
def without_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides llama-cpp-python. Without it there is no self-test, which would take a second."""
    customize(
        tmp_path,
        monkeypatch,
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'llama_cpp': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n",
    )


@pytest.fixture
def doctor(l4: L4) -> Doctor:
    """A function that runs `l4 doctor --json` and returns its exit code and its output."""

    def run(*options: str) -> tuple[int, dict[str, Any]]:
        done = l4(*options, "doctor", "--json")
        assert done.stderr == ""
        found = json.loads(done.stdout)
        levels = {each["level"] for each in found["problems"]}
        assert done.returncode == found["exit_code"] == int("problem" in levels)
        return done.returncode, found

    return run


def customize(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` at the start of every Python process that the test starts."""
    folder = tmp_path / "customized"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    others = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{others}".rstrip(os.pathsep))


def told(found: dict[str, Any], *words: str) -> dict[str, Any]:
    """Return the one problem that contains all these words."""
    (problem,) = [each for each in found["problems"] if all(w in each["text"] for w in words)]
    return problem  # type: ignore[no-any-return]


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


# The command


def test_in_a_pipe_a_fact_is_a_line_of_plain_text(l4: L4, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    done = l4("doctor")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    labels = [line[:13].strip() for line in done.stdout.partition("\n\n")[0].splitlines()]
    assert labels == [
        "l4", "llama.cpp", "", "self-test", "compiler", "processor", "memory", "graphics",
        "config", "state", "cache", "Hub's cache", "Hub", "terminal", "settings",
    ]  # fmt: skip
    lines = done.stdout.splitlines()
    assert any(line.startswith("self-test    all is well (") for line in lines)
    assert any(line.startswith("terminal ") and "none (NO_COLOR)" in line for line in lines)
    at = next(n for n, line in enumerate(lines) if line.startswith(f"hint: the Hub ({CLOSED})"))
    assert lines[at + 1] == "  unset HF_ENDPOINT"


@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal_lines_are_folded_and_nothing_is_cut_off(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L4_MODEL", "a-model-with-a-name-that-is-longer-than-forty-columns.gguf")
    command = [sys.executable, "-m", "l4cli", "doctor"]
    with Terminal(command, columns=columns, rows=90) as terminal:
        terminal.exit_code()
        lines = terminal.lines()
    assert max(map(len, lines)) <= columns
    facts = lines[: lines.index("")]
    if columns == 80:
        assert len(facts) <= 24 + len(str(tmp_path)) // 15  # the cache's path is this test's
    text = "".join(line[13:] for line in facts)
    assert "=a-model-with-a-name-that-is-longer-than-forty-columns.gguf" in text.replace(" ", "")
    assert str(cache_home() / "l4") in text.replace(" ", "")


def test_neither_llama_cpp_nor_numpy_is_loaded(bare_path: Path) -> None:
    code = (
        "import sys\nfrom l4cli.app import app\n"
        "try: app(['doctor', '--json'], standalone_mode=False)\n"
        "finally:\n"
        "    heavy = {'numpy', 'llama_cpp'} & sys.modules.keys()\n"
        "    print(f'loaded {sorted(heavy)}', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "loaded []"


def test_nonsense_in_the_environment_is_named_and_secrets_are_not_shown(
    l4: L4, bare_path: Path, without_llama_cpp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense = {"L4_THREADS": "many", "L4_THREAD": "3", "L4_CTX": "128k"}
    secrets = {"L4_API_KEY": "sesame1", "L4_TOKEN": "sesame2", "HF_TOKEN": "hf_sesame3"}
    for name, value in (nonsense | secrets).items():
        monkeypatch.setenv(name, value)
    done, screen = l4("doctor", "--json"), l4("doctor")
    assert done.returncode == screen.returncode == 1
    found = json.loads(done.stdout)
    refused = told(found, "L4_THREADS=many: ", "not a whole number")
    assert (refused["level"], refused["remedies"]) == ("problem", ["unset L4_THREADS"])
    unread = told(found, "L4_THREAD is set, and nothing reads it")
    assert (unread["level"], unread["remedies"]) == ("hint", ["unset L4_THREAD"])
    assert not [each for each in found["problems"] if "L4_CTX" in each["text"]]
    assert found["hub"]["has_token"] is True
    assert "L4_CTX=128k" in screen.stdout
    assert "L4_API_KEY (hidden)" in screen.stdout
    assert "sesame" not in done.stdout + screen.stdout


def test_a_broken_config_toml_is_told_and_does_not_stop_it(
    doctor: Doctor, l4: L4, bare_path: Path, without_llama_cpp: None, tmp_path: Path
) -> None:
    config = tmp_path / "xdg-config" / "l4" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[run\n")
    code, found = doctor("--verbose")
    assert code == 1
    problem = told(found, "no other command starts", str(config), "line 1")
    assert problem["remedies"] == [f"${{EDITOR:-vi}} {config}"]
    assert l4("models").returncode == 2
    config.write_text("[runn]\n")
    assert "'runn' is not a command" in told(doctor()[1], "no other command starts")["text"]
    config.write_text('[run]\nmodel = "demo"\n')
    assert doctor()[1]["settings"]["has_config"] is True


def test_without_a_home_it_says_so_and_goes_on(
    doctor: Doctor, l4: L4, bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    customize(
        tmp_path,
        monkeypatch,
        "import pathlib\n"
        "def fail(*_): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = pathlib.Path.expanduser = fail\n",
    )
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME")
    code, found = doctor()
    assert code == 1
    assert found["self_test"]["outcome"]["loads"]
    assert told(found, "there is no home folder")["remedies"] == ['export HOME="$(mktemp -d)"']
    done = l4("models")
    assert done.returncode == 2
    assert done.stderr == (
        "l4: could not determine home directory: set HOME, or XDG_CONFIG_HOME, XDG_CACHE_HOME and "
        "XDG_STATE_HOME\n"
    )


# llama.cpp


def test_without_llama_cpp_python_the_line_installs_it_with_what_it_needs(
    doctor: Doctor, l4: L4, without_llama_cpp: None
) -> None:
    code, found = doctor()
    assert code == 1
    assert found["llama_cpp"] is None
    (remedy,) = told(found, "llama-cpp-python is not installed")["remedies"]
    assert remedy.endswith(f"--no-binary llama-cpp-python llama-cpp-python=={TESTED_VERSION}")
    assert "--no-deps" not in remedy
    assert "llama.cpp    not installed" in l4("doctor").stdout


def test_a_llama_cpp_that_does_not_load_is_told_as_that(
    doctor: Doctor, bare_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    customize(tmp_path, monkeypatch, "")
    package = tmp_path / "customized" / "llama_cpp" / "__init__.py"
    package.parent.mkdir()
    package.write_text("raise RuntimeError('Failed to load libllama.so: no libgomp.so.1')")
    code, found = doctor()
    assert code == 1
    problem = told(
        found, "cannot be loaded (Failed to load libllama.so: no libgomp.so.1): no model"
    )
    assert "there is no C++ compiler to build it with" in problem["text"]
    package.write_text("import a_thing_it_needs")
    problem = told(doctor()[1], "cannot be loaded (No module named 'a_thing_it_needs')")
    assert problem["remedies"][0].endswith("pip install a_thing_it_needs")


@pytest.fixture(scope="module")
def fault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fault_library(tmp_path_factory.mktemp("fault"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (EXTRA_BUFFERS, ["crashes (SIGILL) with repacked weights", "l4 runs without them"]),
        (EVERYTHING, ["crashes (SIGILL) on this processor", "no model can be loaded"]),
    ],
)
def test_a_build_that_crashes_is_told_with_the_line_that_builds_another(
    place: str,
    words: list[str],
    doctor: Doctor,
    fault: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LD_PRELOAD", str(fault))
    monkeypatch.setenv("L4_TEST_FAULT", place)
    code, found = doctor()
    assert code == 1
    problem = told(found, *words)
    assert problem["level"] == "problem"
    assert "--force-reinstall --no-deps --no-cache-dir" in problem["remedies"][-1]
    # A certain outcome is kept for the next command; an uncertain one removes the kept outcome.
    kept = json.loads((cache_home() / "l4" / "selftest.json").read_text())
    assert [each["extra_buffers"] for each in kept.values()] == [False] * (place == EXTRA_BUFFERS)


@pytest.mark.parametrize(
    ("names", "hint", "remedy"),
    [
        (None, "there is no C++ compiler: llama.cpp could not be built again", "l4 doctor"),
        ("/nonexistent", "CXX names /nonexistent, which is not there", "unset CXX; l4 doctor"),
    ],
)
def test_no_compiler_is_a_hint_while_llama_cpp_runs(
    names: str | None,
    hint: str,
    remedy: str,
    doctor: Doctor,
    bare_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if names:
        monkeypatch.setenv("CXX", names)
    problem = told(doctor()[1], hint)
    assert (problem["level"], problem["remedies"]) == ("hint", [remedy])


def test_a_compiler_that_is_too_old_and_another_that_is_not(
    doctor: Doctor, bare_path: Path, without_llama_cpp: None
) -> None:
    compiler = shutil.which("c++", path=os.defpath) or "/usr/bin/c++"
    executable(
        bare_path / "c++",
        "#!/bin/sh\n"
        '[ "$1" = --version ] && echo "c++ (Ancient) 4.4.7" && exit\n'
        "echo \"error: unrecognized option '-std=c++17'\" >&2; exit 1\n",
    )
    old = doctor()[1]
    assert old["compiler"]["verdict"] == "too_old"
    assert "-std=c++17" in old["compiler"]["reason"]
    assert told(old, "c++ is too old to build it with")["remedies"] == ["CXX=g++-12 l4 doctor"]
    executable(bare_path / "g++-12", f'#!/bin/sh\nPATH={os.defpath} exec {compiler} "$@"\n')
    found = doctor()[1]
    assert found["compiler"]["other"] == "g++-12"
    assert "CXX=g++-12 " in told(found, "is not installed")["remedies"][0]


def test_a_card_that_this_build_cannot_use_is_a_problem(doctor: Doctor, bare_path: Path) -> None:
    executable(bare_path / "nvidia-smi", '#!/bin/sh\necho "NVIDIA H200, 143771 MiB, 550.54.15"\n')
    code, found = doctor()
    if found["llama_cpp"]["gpu_support"]:
        pytest.skip("this build can use it")
    assert code == 1
    assert found["graphics"]["nvidia"] == [
        {"name": "NVIDIA H200", "memory": 143771 << 20, "driver": "550.54.15"}
    ]
    assert told(found, "there is an NVIDIA card", "without support")["level"] == "problem"


# The line that builds llama.cpp


@pytest.mark.parametrize(
    ("cmake_args", "flags", "options", "expected"),
    [
        ("", (), (), None),
        ("", KEEP_STORES, (), ["-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse"]),
        ("", (), (CUDA,), [CUDA]),
        (f"{CUDA} -DGGML_BLAS=on", KEEP_STORES, (CUDA,),
         ["-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse", CUDA, "-DGGML_BLAS=on"]),
        ("'-DCMAKE_CXX_FLAGS=-O2 -g' -DX=\"a'b $HOME\"", KEEP_STORES, (),
         ["-DCMAKE_CXX_FLAGS=-fno-tree-dse -fno-dse -O2 -g", "-DX=a'b $HOME"]),
        ("-DX='unfinished", (), (), None),
    ],
)  # fmt: skip
def test_the_line_survives_the_shell(
    cmake_args: str,
    flags: tuple[str, ...],
    options: tuple[str, ...],
    expected: list[str] | None,
    tmp_path: Path,
) -> None:
    said = pasted(
        tmp_path,
        Installer("pip install", cmake_args).build_line(
            Toolchain("c++", "", Verdict.FINE, flags), options=options
        ),
    )
    given = said["env"].get("CMAKE_ARGS")
    assert (given and shlex.split(given)) == expected
    assert "CXX" not in said["env"]
    assert said["arguments"] == [
        "install", "--force-reinstall", "--no-deps", "--no-cache-dir",
        "--no-binary", "llama-cpp-python", f"llama-cpp-python=={TESTED_VERSION}",
    ]  # fmt: skip


def test_the_line_names_the_compiler_that_is_not_cmakes_own_choice(tmp_path: Path) -> None:
    compiler = "ccache /opt/it's new/g++"
    here = Installer("pip install", names_compiler=True, nvcc="/usr/local/cuda/bin/nvcc")
    line = here.build_line(Toolchain(compiler, "", Verdict.FINE), options=[CUDA], again=False)
    said = pasted(tmp_path, line)
    assert said["env"]["CXX"] == compiler
    assert said["env"]["CUDACXX"] == "/usr/local/cuda/bin/nvcc"
    assert said["arguments"][:2] == ["install", "--no-cache-dir"]


def test_the_line_is_as_short_as_the_manual_has_it() -> None:
    line = Installer("pip install").build_line(Toolchain("c++", "", Verdict.FINE, KEEP_STORES))
    assert line == (
        "CMAKE_ARGS=\"-DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'\" pip install --force-reinstall "
        "--no-deps --no-cache-dir --no-binary llama-cpp-python "
        f"llama-cpp-python=={TESTED_VERSION}"
    )


def pasted(tmp_path: Path, line: str) -> dict[str, Any]:
    """Return the arguments and the environment of `pip` when a shell runs this line."""
    executable(
        tmp_path / "pip",
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps({'arguments': sys.argv[1:], 'env': dict(os.environ)}))\n",
    )
    env = {"PATH": str(tmp_path), "HOME": "/nowhere"}
    done = subprocess.run(["/bin/sh", "-c", line], env=env, capture_output=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_what_the_set_up_noted_is_forgotten_once_pip_has_installed_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / build.STAMP
    noted = {"version": version("llama-cpp-python"), "compiler": "g++ 12"}
    stamp.write_text(json.dumps(noted))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert build.installed_recipe() == noted
    os.utime(stamp, (0, 0))
    assert build.installed_recipe() == {}


# Folders


def test_a_file_in_the_place_of_a_folder(
    doctor: Doctor,
    bare_path: Path,
    without_llama_cpp: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    monkeypatch.setenv("XDG_STATE_HOME", str(file))
    _, found = doctor()
    for name in ("cache", "state"):
        problem = told(found, f"into the {name} folder", f"{file} is not a folder")
        assert problem["level"] == "problem"
        assert problem["remedies"] == [f'export XDG_{name.upper()}_HOME="$(mktemp -d)"']


def test_a_disk_that_is_full_and_one_that_is_read_only(
    doctor: Doctor, mounted: Path, without_llama_cpp: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(mounted))
    monkeypatch.setenv("XDG_STATE_HOME", str(mounted))
    (mounted / "l4").mkdir()
    fill(mounted / "filler")
    _, full = doctor()
    assert told(full, "are left on the disk of the cache")["level"] == "problem"
    assert told(full, "into the state folder", "no space left on device")
    (mounted / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    assert told(doctor()[1], "into the state folder", "read-only file system")


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def test_sizes_are_counted_without_following_links_and_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_home() / "l4"
    before = sizes(folders.folders())["cache"].n_bytes  # the self-test's outcome
    for name, size in (("prefixes/a/b", 1000), ("demo/c", 20), ("loose", 3)):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(bytes(size))
    (cache / "prefixes" / "round").symlink_to(cache, target_is_directory=True)
    (cache / "demo" / "link").symlink_to("c")
    (found,) = [each for each in folders.folders() if each.name == "cache"]
    entries = {entry.name: entry.size.n_bytes for entry in found.entries}
    links = 4 + len("c") + len(str(cache))
    assert 1000 <= entries["prefixes"] <= 1000 + links
    assert 20 <= entries["demo"] <= 20 + links
    assert 1023 <= found.size.n_bytes - before <= 1023 + links
    assert found.size.is_whole
    monkeypatch.setattr(folders, "_LOOK_AT_CLOCK", 1)
    assert not sizes(folders.folders(seconds=-1))["cache"].is_whole
    assert sorted(path.name for path in cache.iterdir()) == [
        "demo", "loose", "prefixes", "selftest.json",
    ]  # fmt: skip


def sizes(found: tuple[Folder, ...]) -> dict[str, Size]:
    return {each.name: each.size for each in found}


# The Hub


@pytest.fixture
def web() -> Iterator[str]:
    """The address of a server that answers every request with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_any_answer_of_the_hub_is_an_answer_and_passwords_are_not_shown(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{web}")
    assert reach().seconds is not None
    monkeypatch.setattr(constants, "ENDPOINT", f"http://me:sesame@{web}")
    assert "sesame" not in str(reach())
    assert reach().endpoint == f"http://{web}"
    for nonsense in ("nonsense", "file:///etc/passwd", "http://[", "http://"):
        monkeypatch.setattr(constants, "ENDPOINT", nonsense)
        found = reach()
        assert found.seconds is None
        assert found.complaint
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = reach()
    assert (found.is_offline, found.seconds, found.complaint) == (True, None, "")


# Problems, in made-up facts


FINE = Outcome(
    library={
        "system_info": "CPU : AVX2 = 1 |",
        "features": ["AVX", "AVX2", "FMA", "F16C"],
        "gpu_support": False,
        "gpus": [],
    }
)
GCC = Toolchain("c++", "c++ 14", Verdict.FINE)
AFFECTED = Toolchain("c++", "c++ 12.2", Verdict.KEEPS_STORES, KEEP_STORES, uses_amx=True)
PIP = Installer("pip install", compiler_line="apt-get install -y build-essential")
NVIDIA = Graphics(("NVIDIA",), (NvidiaCard("NVIDIA L4", 24 << 30, "550"),))


def well(tmp: Path = Path("/home/me"), **software: Any) -> Facts:
    """The facts of a machine without problems; `software` replaces fields of its Software."""
    here = Software(
        Build(TESTED_VERSION, tmp / "lib", "key", {}), Trial(FINE, 0.5), GCC, PIP, has_numba=True
    )
    return Facts(
        System("0.1", "CPython 3.12", "/usr/bin/python3", "/usr", "Debian", "Linux 6", "x86_64"),
        replace(here, **software),
        Cpu("AMD EPYC", 8, 8.0, 4, ("avx", "avx2", "fma", "f16c")),
        Memory(16 << 30, 8 << 30, None),
        Graphics(),
        tuple(
            Folder(name, tmp / name, True, free=10**11)
            for name in ("configuration", "state", "cache", "hub")
        ),
        Reach("https://huggingface.co", seconds=0.2),
        replace(machine.terminal(), encoding="UTF-8"),
        Settings(),
    )


def judged(**outcome: Any) -> dict[str, Any]:
    return {"trial": Trial(replace(FINE, **outcome), 0.5)}


def saying(**library: Any) -> dict[str, Any]:
    return judged(library={**FINE.library, **library})


def test_where_all_is_well_nothing_is_said() -> None:
    assert problems(well()) == []


LINE = (
    "pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python "
    f"llama-cpp-python=={TESTED_VERSION}"
)
AMX_LINE = f"CMAKE_ARGS=\"-DCMAKE_CXX_FLAGS='-fno-tree-dse -fno-dse'\" {LINE}"
CRASH = {"extra_buffers": False, "reason": "crashes (SIGSEGV)"}


@pytest.mark.parametrize(
    ("software", "words", "remedy", "is_hint"),
    [
        (judged(**CRASH), ["crashes (SIGSEGV) with repacked weights"], LINE, False),
        ({**judged(**CRASH), "toolchain": AFFECTED}, ["the compiler drops AMX's stores"],
         AMX_LINE, False),
        (judged(loads=False, reason="computes nonsense", is_certain=False),
         ["computes nonsense on this processor (AMD EPYC)"], LINE, False),
        (judged(loads=False, reason="crashes (SIGILL)",
                library={"features": ["AVX", "AVX512"]}),
         ["crashes (SIGILL)", "compiled for a processor with AVX512"], LINE, False),
        (judged(states=False), ["does not keep the reading cache"], LINE, False),
        (judged(moving=False), ["does not use a second context for prompts"], LINE, False),
        (judged(defaults=False), ["does not support the llama.cpp", TESTED_VERSION], LINE, False),
        (judged(reason="ModuleNotFoundError: No module named 'numpy'", is_certain=False,
                library={}),
         ["could not be run: No module named 'numpy'"], "pip install numpy", False),
        (judged(reason="l4cli.errors.ModelLoadError: llama-cpp-python cannot be loaded (libgomp.so"
                       ".1: no such file): `l4 doctor` tells how to build it for this machine",
                       is_certain=False,
                library={}),
         ["llama-cpp-python cannot be loaded (libgomp.so.1: no such file): no model"], LINE, False),
        ({"trial": Trial(complaint="BlockingIOError: no process")},
         ["could not be run: no process"],
         "/usr/bin/python3 -m l4cli.engine.llamacpp.selftest", False),
        ({"build": Build("0.3.40", Path("lib"), "key", {})},
         ["llama-cpp-python is 0.3.40; l4 is tested with"], LINE, False),
        (saying(features=["AVX", "FMA", "F16C"]), ["without AVX2", "slower"], LINE, False),
        ({"build": None, "trial": Trial(complaint="there is nothing to test")},
         ["not installed"], LINE.replace("--force-reinstall --no-deps ", ""), False),
        ({"has_numba": False}, ["numba is not installed"], "pip install 'numba>=0.61'", True),
        ({"toolchain": Toolchain("", "", Verdict.NO_COMPILER)}, ["there is no C++ compiler"],
         "apt-get install -y build-essential", True),
    ],
)  # fmt: skip
def test_problems_of_the_software(
    software: dict[str, Any], words: list[str], remedy: str, is_hint: bool
) -> None:
    (problem,) = problems(well(**software))
    assert all(word in problem.text for word in words), problem.text
    assert problem.remedies[0] == remedy
    assert problem.is_hint == is_hint


def test_flags_against_amxs_stores_matter_only_where_the_self_test_is_not_fine() -> None:
    assert problems(well(toolchain=AFFECTED)) == []
    with_flags = Build(TESTED_VERSION, Path("lib"), "key", {"cmake_args": AFFECTED.cmake_args})
    made_so = well(toolchain=AFFECTED, build=with_flags, **judged(**CRASH))
    assert "AMX" not in problems(made_so)[0].text
    untested = well(toolchain=AFFECTED, trial=Trial(complaint="no process"))
    assert "may crash; the compiler drops AMX's stores" in problems(untested)[1].text
    assert problems(untested)[1].remedies == (AMX_LINE,)


def test_amx_that_is_not_used_is_a_hint_where_the_compiler_knows_it() -> None:
    cpu = Cpu("Xeon", 8, 8.0, 4, ("amx_int8", "avx", "avx2", "avx512f", "f16c", "fma"))
    facts = replace(well(toolchain=AFFECTED), cpu=cpu)
    (hint,) = problems(facts)
    assert "built without AVX512, AMX_INT8" in hint.text
    assert hint.is_hint
    no_amx = Toolchain("c++", "", Verdict.WITHOUT_AMX, NO_AMX)
    (hint,) = problems(replace(well(toolchain=no_amx), cpu=cpu))
    assert "AMX" not in hint.text


def test_a_build_that_is_needed_and_no_compiler_are_one_problem() -> None:
    gone = Toolchain("", "", Verdict.NO_COMPILER)
    (problem,) = problems(well(toolchain=gone, **judged(**CRASH)))
    assert "there is no C++ compiler to build it with" in problem.text
    assert problem.remedies == ("apt-get install -y build-essential", "l4 doctor")
    newer = Toolchain("g++-13", "", Verdict.FINE)
    old = Toolchain("c++", "4.4", Verdict.TOO_OLD)
    (problem,) = problems(well(toolchain=old, other_toolchain=newer, **judged(**CRASH)))
    assert problem.remedies == (f"CXX=g++-13 {LINE}",)
    (hint,) = problems(well(toolchain=old, other_toolchain=newer))
    assert hint == Problem(
        "c++ is too old to build llama.cpp; g++-13 can be used", ("export CXX=g++-13",), True
    )


@pytest.mark.parametrize(
    ("graphics", "library", "variables", "words", "remedy"),
    [
        (NVIDIA, {}, {}, ["NVIDIA card", "without support", "no nvcc"],
         f"CMAKE_ARGS=-DGGML_CUDA=on {LINE}"),
        (Graphics(("NVIDIA",), driver_complaint="there is no nvidia-smi"), {}, {},
         ["NVIDIA card"], f"CMAKE_ARGS=-DGGML_CUDA=on {LINE}"),
        (Graphics(("NVIDIA",), driver_complaint="NVIDIA-SMI has failed"), {"gpu_support": True}, {},
         ["sees none", "NVIDIA-SMI has failed"], "nvidia-smi"),
        (Graphics(), {"gpu_support": True}, {}, ["sees none", "container"],
         f"CMAKE_ARGS=-DGGML_CUDA=off {LINE}"),
        (NVIDIA, {"gpu_support": True}, {"CUDA_VISIBLE_DEVICES": ""},
         ["CUDA_VISIBLE_DEVICES hides them"], "unset CUDA_VISIBLE_DEVICES"),
    ],
)  # fmt: skip
def test_problems_of_graphics_cards(
    graphics: Graphics,
    library: dict[str, Any],
    variables: dict[str, str],
    words: list[str],
    remedy: str,
) -> None:
    settings = Settings(tuple(Variable(*each) for each in variables.items()))
    facts = replace(well(**saying(**library)), graphics=graphics, settings=settings)
    (problem,) = problems(facts)
    assert all(word in problem.text for word in words), problem.text
    assert problem.remedies == (remedy,)
    assert not problem.is_hint


def test_cards_that_are_used_and_cards_that_are_not_nvidias_are_no_problem() -> None:
    used = well(**saying(gpu_support=True, gpus=[{"name": "NVIDIA L4"}]))
    assert problems(replace(used, graphics=NVIDIA)) == []
    assert problems(replace(well(), graphics=Graphics(("AMD", "Intel")))) == []


def test_what_the_next_build_keeps_of_the_installed_one() -> None:
    made = {"cmake_args": "-DCMAKE_CXX_FLAGS=-fno-dse -DGGML_CUDA=on -DGGML_BLAS=on"}
    facts = well(build=Build(TESTED_VERSION, Path("lib"), "key", made), **judged(**CRASH))
    (problem,) = problems(facts)
    assert problem.remedies == (f"CMAKE_ARGS='-DGGML_CUDA=on -DGGML_BLAS=on' {LINE}",)
    broken = {"cmake_args": "-DGGML_CUDA=on '"}
    facts = well(build=Build(TESTED_VERSION, Path("lib"), "key", broken), **judged(**CRASH))
    assert problems(facts)[0].remedies == (LINE,)


def test_problems_of_the_surroundings() -> None:
    facts = well()
    entries = (Entry("prefixes", Size(5 * 10**9)), Entry("demo", Size(10)))
    short = replace(facts.folders[2], free=10**8, entries=entries)
    (problem,) = problems(replace(facts, folders=(short,)))
    assert "95.4 MiB are left" in problem.text
    assert problem.remedies == ("rm -r /home/me/cache/prefixes",)
    shared = replace(facts.folders[3], complaint="read-only file system")
    assert [each.is_hint for each in problems(replace(facts, folders=(shared,)))] == [True]
    (hint,) = problems(replace(facts, cpu=replace(facts.cpu, usable=0.5)))
    assert (hint.text[:37], hint.is_hint) == ("this container may use 0.5 of a core:", True)
    latin = replace(facts.terminal, encoding="ISO-8859-1")
    assert problems(replace(facts, terminal=latin)) == [
        Problem(
            "the terminal's encoding is ISO-8859-1, and l4 writes UTF-8",
            ("export LC_ALL=C.UTF-8",),
            is_hint=True,
        )
    ]
    offline = Reach("https://huggingface.co", complaint="timed out")
    (hint,) = problems(replace(facts, hub=offline))
    assert hint.remedies == ("curl -sSI https://huggingface.co",)


def test_problems_come_before_hints() -> None:
    facts = well(has_numba=False, **judged(**CRASH))
    assert [each.is_hint for each in problems(facts)] == [False, True]


def test_cards_as_nvidias_driver_tells_of_them() -> None:
    said = "NVIDIA H200, 143771 MiB, 550.54.15\nOrin, a board, [N/A], 540.3\nNVIDIA GB10\n"
    assert machine.nvidia_cards(said) == (
        NvidiaCard("NVIDIA H200", 143771 << 20, "550.54.15"),
        NvidiaCard("Orin, a board", None, "540.3"),
        NvidiaCard("NVIDIA GB10", None, ""),
    )


def test_cards_are_counted_once_by_the_system_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SYS", tmp_path)
    for number, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x8086", "0x030000"), ("0x8086", "0x020000"), ("0x1a03", "0x03")]
    ):
        device = tmp_path / "devices" / str(number)
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        bus = tmp_path / "bus" / "pci" / "devices"
        bus.mkdir(parents=True, exist_ok=True)
        (bus / str(number)).symlink_to(device)
        if number == 1:
            for name in ("card0", "renderD128"):
                drm = tmp_path / "class" / "drm" / name
                drm.mkdir(parents=True)
                (drm / "device").symlink_to(device)
    assert machine._cards() == ("Intel", "NVIDIA")
