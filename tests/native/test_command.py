"""`make install`: the command l4 on the PATH, by uv, by pipx, or by a link to an environment."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from l4cli.native import command
from l4cli.native.wheel import Recipe, WheelError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without uv and pipx, and a wheel that was compiled before."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    (tmp_path / "tools").mkdir()
    wheel = tmp_path / "wheels" / "llama_cpp_python-1-py3-none-any.whl"
    monkeypatch.setattr(command, "kept_wheel", lambda recipe: wheel)
    monkeypatch.setattr(
        command, "recipe_of", lambda version, _: Recipe(version, "linux", "gcc", "", (), "cpu")
    )
    return tmp_path


def tool(here: Path, name: str, folder: str) -> Path:
    """A program that says where commands lie, and installs l4 as uv and pipx do; its log."""
    script = here / "tools" / name
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {here}/log\n'
        f'case "$*" in *dir*|*PIPX_BIN_DIR*) echo {here}/bin; exit;; esac\n'
        f"mkdir -p {here}/{folder}/l4/bin {here}/bin\ntouch {here}/{folder}/l4/bin/l4\n"
        f"ln -sf {here}/{folder}/l4/bin/l4 {here}/bin/l4\n"
    )
    script.chmod(0o755)
    return here / "log"


@pytest.mark.parametrize(
    ("name", "folder", "only"),
    [
        ("uv", "uv/tools", "--no-build-package llama-cpp-python"),
        ("pipx", "pipx/venvs", "--only-binary llama-cpp-python"),
    ],
)
def test_uv_and_pipx_take_the_wheel_that_was_compiled_here(
    here: Path, name: str, folder: str, only: str
) -> None:
    log = tool(here, name, folder)
    for _ in range(2):  # the second time renews it
        assert command.install_command(ROOT, ROOT / "requirements.lock") == here / "bin" / "l4"
    said = log.read_text()
    assert f"--find-links {here / 'wheels'} {only}" in said
    assert (here / folder / "l4" / command.STAMP).is_file()


def test_without_them_an_environment_and_a_link(here: Path) -> None:
    place = command.bin_folder() / "l4"
    assert place == here / ".local" / "bin" / "l4"
    made = command.commands(ROOT, ROOT / "requirements.lock", here / "wheels", place)
    assert made[0][1:] == ["-m", "venv", str(here / ".local/share/l4")]
    assert made[1][-3:] == ["--only-binary", "llama-cpp-python", f"{ROOT}[fast,serve]"]
    for line in made[-2:]:
        subprocess.run(line, check=True)
    assert place.readlink() == here / ".local/share/l4/bin/l4"


def test_another_program_of_this_name_stays(here: Path) -> None:
    place = here / ".local" / "bin" / "l4"
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(WheelError, match="is another program: move it away"):
        command.install_command(ROOT, ROOT / "requirements.lock")
    assert place.read_text() == "mine"


def test_a_folder_that_is_not_on_the_path_is_told() -> None:
    hint = command.hint_of_path(Path("/h/bin"), {"PATH": "/usr/bin"})
    assert 'export PATH="/h/bin:$PATH"' in hint
    assert command.hint_of_path(Path("/h/bin"), {"PATH": "/usr/bin:/h/bin"}) == ""


def test_make_run_ends_with_what_to_try() -> None:
    said = subprocess.run(
        ["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    last = said[said.index("Try next") :]
    for shown in (".venv/bin/l4 chat", ".venv/bin/l4 ask examples/pump.md -q", "make install"):
        assert shown in last
