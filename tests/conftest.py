"""Fixtures: a separate home for every test, real tiny models, and the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

TESTS = Path(__file__).resolve().parent
ROOT, GOLDEN = TESTS.parent, TESTS / "golden"

sys.path.insert(0, str(TESTS))  # for the modules that tests share

from starter import Starter, shared, starts_alike  # noqa: E402

if TYPE_CHECKING:
    from l4cli.engine.llamacpp import LlamaModel

_FORKED = {"env", "cwd", "timeout"}  # the options of `subprocess.run` that Starter knows

L4 = Callable[..., "subprocess.CompletedProcess[str]"]

# Two workers share the cores: threads of llama.cpp that wait must not keep the other's waiting.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# pytest-xdist sets these, and commands would take them for the size of the terminal.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)

# Compile l4 once for all the commands that tests start, as an installed one is compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A test that passed here passes in CI as well, however busy the machine is.
# `pytest --hypothesis-profile=fuzz` looks for more.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fuzz", derandomize=False, print_blob=True, deadline=None)
settings.load_profile("fixed")

# `nohup` and CI runners start processes that ignore Ctrl-C, and child processes inherit that. But
# commands to which tests send signals must receive them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def self_test() -> str:
    """The outcome of llama.cpp's self-test, in selftest.json's form. It runs once for all tests."""
    from l4cli.native import selftest
    from l4cli.native.build import installed_build

    build = installed_build()
    assert build is not None
    found = selftest.run()
    assert found.is_fine, found
    return json.dumps({selftest.key_of(build): asdict(found)})


def cache_home() -> Path:
    """Return the cache folder of the running test."""
    return Path(os.environ["XDG_CACHE_HOME"])


@pytest.fixture(autouse=True)
def _own_home(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    self_test: str,
) -> None:
    """No test reads or writes the user's configuration, state or caches."""
    for name in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / f"xdg-{name.lower()}"))
    caches = tmp_path_factory.getbasetemp() / "caches"
    caches.mkdir(exist_ok=True)
    cache = Path(tempfile.mkdtemp(dir=caches))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    (cache / "l4").mkdir()
    (cache / "l4" / "selftest.json").write_text(self_test)
    for name in [name for name in os.environ if name.startswith(("L4_", "HF_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint like Scout's, tiny and with random weights."""
    from checkpoints import write_checkpoint

    path = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_checkpoint(path)
    return path


@pytest.fixture(scope="session")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint as an F32 GGUF; its answers are babble, but the same bits every time."""
    import convert

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    convert.convert(convert.plan(tiny_checkpoint, "F32"), path)
    return path


@pytest.fixture(scope="module")
def model(tiny_gguf: Path) -> Iterator[LlamaModel]:
    """The tiny GGUF, loaded."""
    from l4cli.engine.llamacpp import LlamaModel

    model = LlamaModel(tiny_gguf)
    yield model
    model.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    path = tmp_path / "mounted"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip("mounting a small file system takes root")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def starter() -> Starter:
    return shared()


@pytest.fixture
def l4_from_nothing() -> L4:
    """A function that runs the real command; `stdin` is text or bytes, the output is text."""

    def run(*args: str | Path, stdin: str | bytes = "", **options: Any) -> Any:
        options.setdefault("timeout", 120)
        command = [sys.executable, "-m", "l4cli", *map(str, args)]
        data = _bytes(stdin)
        return _as_text(
            subprocess.run(command, input=data, capture_output=True, check=False, **options)
        )

    return run


@pytest.fixture
def l4(starter: Starter, l4_from_nothing: L4) -> L4:
    """The same, quicker: the process is a fork of one that has imported everything."""

    def run(*args: str | Path, stdin: str | bytes = "", **options: Any) -> Any:
        if options.keys() - _FORKED or not starts_alike(options.get("env") or os.environ):
            return l4_from_nothing(*args, stdin=stdin, **options)
        options.setdefault("timeout", 120)
        return _as_text(starter.run(list(map(str, args)), _bytes(stdin), **options))

    return run


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _as_text(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
