"""A wheel and an sdist contain all of l4, and l4 runs where nothing else is installed.

Needs the package index, and takes two minutes. llama.cpp is not compiled again: llama-cpp-python is
copied from the environment that runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow


def output(*command: str | Path, cwd: Path, stdin: str = "") -> str:
    """Runs a command that must succeed, and returns what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked() -> set[str]:
    """Returns the names of the repository's files without hidden ones, except .gitignore.

    hatchling packages the same files.
    """
    names = output("git", "ls-files", "-z", cwd=ROOT).split("\0")[:-1]
    return {name for name in names if not name.startswith(".") or name == ".gitignore"}


def new_environment(folder: Path) -> Path:
    """Makes an environment with nothing but pip, and returns its Python."""
    output(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel and the sdist from a copy of the tracked files."""
    folder = tmp_path_factory.mktemp("packaging")
    for name in tracked():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "source" / name)
    python = new_environment(folder / "hatchling")
    output(python, "-m", "pip", "install", "hatchling", cwd=folder)
    output(python, "-m", "hatchling", "build", "-d", folder / "dist", cwd=folder / "source")
    return folder / "dist"


@pytest.fixture(scope="module", params=["*.whl", "*.tar.gz"], ids=["wheel", "sdist"])
def bin_folder(
    dist: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Installs the wheel or the sdist, with locked dependencies, next to llama-cpp-python alone."""
    folder = tmp_path_factory.mktemp("installed")
    python = new_environment(folder / "venv")
    where = "import sysconfig; print(sysconfig.get_path('platlib'))"
    packages = Path(output(python, "-c", where, cwd=folder).strip())
    llama = distribution("llama-cpp-python")
    for file in llama.files or ():
        (packages / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(llama.locate_file(file)), packages / file)
    (built,) = dist.glob(request.param)
    pip = (python, "-m", "pip", "install", "--only-binary", "llama-cpp-python")
    output(*pip, "-c", ROOT / "requirements.lock", built, cwd=folder)
    output(python, "-m", "pip", "check", cwd=folder)
    return python.parent


def test_wheel_holds_the_packages_alone(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {name for name in tracked() if name.startswith(("l4cli/", "convert/"))}
    assert {name for name in names if ".dist-info/" not in name} == {*code, "l4cli/models.toml"}


def test_sdist_holds_the_repository(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == {*tracked(), "PKG-INFO"}


def test_l4_runs_where_nothing_else_is(bin_folder: Path, tmp_path: Path) -> None:
    """l4 runs from an empty folder, with no configuration and no caches."""
    empty = tmp_path / "empty"
    empty.mkdir()
    l4 = bin_folder / "l4"
    assert output(l4, "--version", cwd=empty).startswith("l4 ")
    assert "demo" in output(l4, "models", cwd=empty)
    prompts = "".join(json.dumps({"prompt": text}) + "\n" for text in ("Hello!", "What are you?"))
    answers = output(l4, "run", "-m", "demo", "-n", "8", cwd=empty, stdin=prompts).splitlines()
    assert len(answers) == 2
    assert all(json.loads(answer)["text"].strip() for answer in answers)
    assert not list(empty.iterdir())
