"""Builds llama-cpp-python for this machine, caches the wheel for other environments, installs it.

pip caches the wheels it builds by name and version alone, so it would reuse one that was compiled
for another processor, or with flags that make it crash. So the set-up builds the wheel itself and
caches it under a key made of the processor, the compiler and the flags.

This module needs only the standard library. `python -m l4cli.native.wheel --lock requirements.lock`
installs the pinned version into the environment of that python. It does nothing if that build is
installed already.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from l4cli.native.build import NAME, STAMP, installed_recipe
from l4cli.native.cmake import join_arguments, split_arguments, with_flags
from l4cli.native.cpu import cpu_key, usable_cores
from l4cli.native.toolchain import Toolchain, Verdict, examine
from l4cli.paths import cache_dir

_VARIABLES = ("CC", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDACXX", "CUDA_PATH")
_CORE_SECONDS = 500  # of compiling; 8 minutes on one core of a server from 2020
_MOST_KEPT = 4  # wheels; 10 MB each, or 200 MB with CUDA
_BUILDING = "building-"  # prefix of the folders of builds in progress
_STALE = 86400  # seconds after which a build folder counts as abandoned
_SAY_EVERY = 30  # seconds between progress lines if stderr is not a terminal
_MOST_ERRORS = 8  # error lines of a failed build to show
_LAST_LINES = 15  # last lines of a failed build to show if it has no error lines

# llama-cpp-python always builds llama.cpp's `common` library. It is half of all the code that is
# compiled, and nothing that is installed uses it. llama-cpp-python forces the cache entry; a normal
# variable hides it (CMP0126).
_LEAVE_OUT = "set(LLAMA_BUILD_COMMON OFF)\n"


class WheelError(Exception):
    """The wheel cannot be built or installed; the message is one or more lines for the user."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the bytes of a wheel.

    version: of llama-cpp-python.
    platform: `sys.platform`.
    compiler: its command and version.
    cmake_args: the value of CMAKE_ARGS, with the flags that the compiler needs.
    variables: other settings that CMake takes from the environment, as NAME=VALUE.
    cpu: the processor's key.
    """

    version: str
    platform: str
    compiler: str
    cmake_args: str
    variables: tuple[str, ...]
    cpu: str

    @property
    def key(self) -> str:
        """The name of the folder in which the wheel is kept."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"{self.version}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def recipe_of(version: str, toolchain: Toolchain) -> Recipe:
    """Return the recipe by which this machine builds that version of llama-cpp-python."""
    flags = toolchain.flags
    # CMake ignores CXXFLAGS if CMAKE_CXX_FLAGS is set.
    if flags and (given := os.environ.get("CXXFLAGS")):
        flags = (*flags, given)
    return Recipe(
        version=version,
        platform=sys.platform,
        compiler=f"{toolchain.compiler} {toolchain.version}",
        cmake_args=join_arguments(
            with_flags(split_arguments(os.environ.get("CMAKE_ARGS", "")), flags)
        ),
        variables=tuple(f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ),
        cpu=cpu_key(),
    )


def pinned_version(lock: Path) -> str:
    """Return the version of llama-cpp-python in a file of constraints. Raises WheelError."""
    found = re.search(rf"^{NAME}==([\w.]+)", lock.read_text("utf-8"), re.MULTILINE)
    if not found:
        raise WheelError(f"{lock} does not pin {NAME}")
    return found[1]


def install(lock: Path) -> None:
    """Install the pinned version, built for this machine, into this environment.

    Raises WheelError if there is no compiler, or if the build fails.
    """
    version = pinned_version(lock)
    toolchain = examine()
    recipe = recipe_of(version, toolchain)
    if is_installed(recipe) or (not toolchain.can_build and _is_usable(recipe)):
        return
    with _workplace() as folder:
        wheel = kept_wheel(recipe)
        if wheel is None:
            if toolchain.problem:
                raise WheelError(toolchain.problem)
            wheel = build(recipe, toolchain, folder)
        else:
            _say(f"installing the llama.cpp that was compiled here before ({wheel.name})")
        _pip("install", "--quiet", "--force-reinstall", "--no-deps", str(wheel))
    stamp = {**asdict(recipe), "key": recipe.key, "verdict": toolchain.verdict.value}
    (Path(sys.prefix) / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", "utf-8")


def is_installed(recipe: Recipe) -> bool:
    """Whether exactly this build is installed in this environment."""
    return bool(installed_recipe().get("key") == recipe.key)


def _is_usable(recipe: Recipe) -> bool:
    """Whether a build of this version for this processor is installed, made by any compiler."""
    held = installed_recipe()
    return all(held.get(name) == getattr(recipe, name) for name in ("version", "platform", "cpu"))


@contextmanager
def _workplace() -> Iterator[Path]:
    """Context manager: a temporary folder to build in, if possible next to the cached wheels."""
    try:
        kept = _kept_dir()
        kept.mkdir(parents=True, exist_ok=True)
        _drop_stale(kept)
        folder = tempfile.TemporaryDirectory(dir=kept, prefix=_BUILDING)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        folder = tempfile.TemporaryDirectory(prefix="l4-wheel-")
    with folder as name:
        yield Path(name)


def kept_wheel(recipe: Recipe) -> Path | None:
    """Return the cached wheel of this recipe; None if it was not built before."""
    try:
        return next(iter(sorted((_kept_dir() / recipe.key).glob("*.whl"))), None)
    except (OSError, RuntimeError):
        return None


def build(recipe: Recipe, toolchain: Toolchain, folder: Path) -> Path:
    """Compile the wheel in `folder`, showing progress, and cache it. Raises WheelError."""
    cores = max(1, math.ceil(usable_cores()))
    minutes = max(1, round(_CORE_SECONDS / cores / 60))
    flags = f", with {' '.join(toolchain.flags)}" if toolchain.flags else ""
    _say(f"compiling llama.cpp with {toolchain.version or toolchain.compiler}{flags}")
    _say(
        f"this happens once and takes about {_count(minutes, 'minute')} on {_count(cores, 'core')}"
    )
    if toolchain.verdict is Verdict.UNKNOWN:
        _say(f"the compiler could not be tried ({toolchain.reason}): l4 will test the build")
    slim = folder / "leave_out.cmake"
    slim.write_text(_LEAVE_OUT)
    ours = join_arguments([f"-DCMAKE_PROJECT_INCLUDE={slim.absolute()}"])
    env = {
        **os.environ,
        "CMAKE_ARGS": f"{ours} {recipe.cmake_args}".strip(),
        "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL") or str(cores),
        "CXX": toolchain.compiler,
    }
    command = ["wheel", "--verbose", "--no-deps", "--no-cache-dir", "--no-binary", NAME]
    command += ["--wheel-dir", str(folder), f"{NAME}=={recipe.version}"]
    _run_showing_progress([sys.executable, "-m", "pip", *command], env, folder / "build.log")
    made = next(folder.glob("*.whl"), None)
    if made is None:
        raise WheelError(f"pip made no wheel of {NAME}")
    return _keep(made, recipe)


def _keep(made: Path, recipe: Recipe) -> Path:
    """Copy a wheel into the cache and return the copy; if that fails, return the wheel itself."""
    try:
        kept = _kept_dir() / recipe.key
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, kept / f"{made.name}.part")
        (kept / f"{made.name}.part").replace(kept / made.name)
        (kept / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n", "utf-8")
        _drop_oldest()
    except (OSError, RuntimeError):
        return made
    return kept / made.name


def _run_showing_progress(command: list[str], env: dict[str, str], log: Path) -> None:
    """Run a build that uses ninja. Its output goes to a file, its progress to the screen."""
    started = time.monotonic()
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        _follow(process.stdout, file.write, started)
    if process.returncode:
        kept = Path(tempfile.gettempdir()) / "l4-build.log"  # the build's folder will be removed
        shutil.copy(log, kept)
        telling = "\n".join(_most_telling(log.read_text("utf-8").splitlines()))
        raise WheelError(f"llama.cpp could not be compiled; the whole log is in {kept}\n{telling}")
    _say(f"compiled in {_minutes(time.monotonic() - started)}")


def _follow(lines: Iterable[str], write: Callable[[str], object], started: float) -> None:
    """Show a build's progress from ninja's counts, such as [12/180]."""
    is_terminal = sys.stderr.isatty()
    said = started
    shown = ""
    for line in lines:
        write(line)
        found = re.search(r"\[(\d+)/(\d+)\]", line)
        if not found:
            continue
        done, total, now = int(found[1]), int(found[2]), time.monotonic()
        left = (now - started) / done * (total - done)
        text = f"llama.cpp: {done} of {total} files, about {_minutes(left)} left"
        if is_terminal:
            sys.stderr.write(f"\r{text:<{len(shown)}}")
            shown = text
        elif now - said >= _SAY_EVERY:
            said = now
            _say(text)
    if shown:
        sys.stderr.write("\r" + " " * len(shown) + "\r")


def _most_telling(lines: list[str]) -> list[str]:
    """Return the first error lines of a failed build; its last lines if it has no error lines."""
    errors = [line.strip() for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return errors[:_MOST_ERRORS] or lines[-_LAST_LINES:]


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], check=False)
    if done.returncode:
        raise WheelError(f"pip {arguments[0]} failed")


def _drop_oldest() -> None:
    """Remove all but the latest cached wheels."""
    folders = sorted(
        (path for path in _kept_dir().iterdir() if (path / "recipe.json").is_file()),
        key=lambda path: path.stat().st_mtime,
    )
    for folder in folders[:-_MOST_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _drop_stale(kept: Path) -> None:
    """Remove the folders of builds that were killed."""
    for folder in kept.glob(f"{_BUILDING}*"):
        if time.time() - folder.stat().st_mtime > _STALE:
            shutil.rmtree(folder, ignore_errors=True)


def _kept_dir() -> Path:
    return cache_dir() / "wheels"


def _minutes(seconds: float) -> str:
    return _count(round(seconds), "second") if seconds < 90 else f"{round(seconds / 60)} minutes"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> None:
    """Install the pinned llama-cpp-python; if that fails, print a line and exit with code 2."""
    import argparse

    parser = argparse.ArgumentParser(description="Install llama-cpp-python, built for this machine")
    parser.add_argument("--lock", type=Path, required=True, help="the file that pins its version")
    try:
        install(parser.parse_args().lock)
    except KeyboardInterrupt:
        sys.exit(130)
    except (WheelError, OSError) as error:
        _say(f"l4: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
