"""Puts the command `l4` where a shell finds it, from a clone: `make install`.

uv or pipx does it if one of them is here; otherwise a virtual environment under ~/.local/share gets
a link in ~/.local/bin. llama.cpp is the wheel that `l4cli.native.wheel` compiles for this machine,
with the flags that `make run` uses. Needs only the standard library.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from l4cli.native.build import NAME, STAMP
from l4cli.native.toolchain import examine
from l4cli.native.wheel import WheelError, build, kept_wheel, pinned_version, recipe_of

EXTRAS = "fast,serve"  # so that each command works, at its full speed


def install_command(clone: Path, lock: Path) -> Path:
    """Install l4 from a clone, and return the path of the command. Raises WheelError."""
    toolchain = examine()
    recipe = recipe_of(pinned_version(lock), toolchain)
    place = bin_folder() / "l4"
    refuse_foreign(place)
    with tempfile.TemporaryDirectory(prefix="l4-wheel-") as folder:
        wheel = kept_wheel(recipe)
        if wheel is None:
            if toolchain.problem:
                raise WheelError(toolchain.problem)
            wheel = build(recipe, toolchain, Path(folder))
        for command in commands(clone, lock.resolve(), wheel.parent, place):
            _run(command)
    prefix = place.resolve().parent.parent
    stamp = {**asdict(recipe), "key": recipe.key, "verdict": toolchain.verdict.value}
    (prefix / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", "utf-8")
    return place


def bin_folder() -> Path:
    """The folder for commands of uv, of pipx, or ~/.local/bin."""
    if shutil.which("uv"):
        return Path(_said(["uv", "tool", "dir", "--bin"]))
    if shutil.which("pipx"):
        return Path(_said(["pipx", "environment", "--value", "PIPX_BIN_DIR"]))
    return Path.home() / ".local" / "bin"


def commands(clone: Path, lock: Path, wheels: Path, place: Path) -> list[list[str]]:
    """The commands that install l4; `wheels` is the folder of the compiled llama.cpp."""
    ours = ["--find-links", str(wheels)]
    whole = f"{clone}[{EXTRAS}]"
    if shutil.which("uv"):
        install = ["uv", "tool", "install", "--python", sys.executable, "--reinstall-package", "l4"]
        return [[*install, "--constraints", str(lock), *ours, "--no-build-package", NAME, whole]]
    pip = ["--constraint", str(lock), *ours, "--only-binary", NAME]
    if shutil.which("pipx"):
        install = ["pipx", "install", "--force", "--python", sys.executable]
        return [[*install, "--pip-args", " ".join(pip), whole]]
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "l4"
    python = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    return [
        [sys.executable, "-m", "venv", str(home)],
        [*python, "--upgrade", *pip, whole],
        [*python, "--force-reinstall", "--no-deps", str(clone)],
        ["mkdir", "-p", str(place.parent)],
        ["ln", "-sf", str(home / "bin" / "l4"), str(place)],
    ]


def refuse_foreign(place: Path) -> None:
    """Raise WheelError if there is a command of this name that is not ours."""
    if os.path.lexists(place) and place.resolve().parts[-3:] != ("l4", "bin", "l4"):
        raise WheelError(f"{place} is another program: move it away, then run this again")


def hint_of_path(folder: Path, environment: Mapping[str, str]) -> str:
    """What to do if the shell does not look into a folder; "" if it does."""
    if str(folder) in environment.get("PATH", "").split(os.pathsep):
        return ""
    return (
        f"{folder} is not on your PATH: add this line to the start-up file of your shell "
        "(~/.bashrc, ~/.zshrc), and open a new terminal\n"
        f'  export PATH="{folder}:$PATH"'
    )


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WheelError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _run(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode:
        raise WheelError(f"{' '.join(command)} failed")


def main() -> None:
    """Install l4 from the clone in the current folder; print a line and exit with 2 if it fails."""
    try:
        place = install_command(Path.cwd(), Path("requirements.lock"))
    except KeyboardInterrupt:
        sys.exit(130)
    except (WheelError, OSError) as error:
        sys.stderr.write(f"l4: {error}\n")
        sys.exit(2)
    hint = hint_of_path(place.parent, os.environ)
    sys.stdout.write(f"installed: {place}\n{hint or 'try it: l4 chat'}\n")


if __name__ == "__main__":
    main()
