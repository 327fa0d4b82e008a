"""Composes shell commands that build llama-cpp-python for this machine, for the user to paste."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from l4cli.native.build import NAME, TESTED_VERSION
from l4cli.native.cmake import join_arguments, split_arguments, with_flags
from l4cli.native.toolchain import Toolchain

CUDA = "-DGGML_CUDA=on"
_CMAKES_CHOICE = "c++"  # the compiler that CMake uses if none is named
# NVIDIA's packages put the compiler here, but CMake does not look here.
_NVCC = Path("/usr/local/cuda/bin/nvcc")

# For each package manager, the command that installs a C++ compiler.
_COMPILER_PACKAGES = {
    "apt-get": "apt-get install -y build-essential",
    "dnf": "dnf install -y gcc-c++ make",
    "zypper": "zypper install -y gcc-c++ make",
    "pacman": "pacman -S --noconfirm base-devel",
    "apk": "apk add build-base",
}


@dataclass(frozen=True, slots=True)
class Installer:
    """How to install packages into the environment that l4 runs in.

    command: the command that takes package names: `pip install`, or uv's, which understands pip's
        options.
    cmake_args: the value of the variable CMAKE_ARGS; builds keep its arguments.
    names_compiler: whether the variable CXX names a compiler; builds keep it.
    compiler_line: the command that installs a C++ compiler; None if it is not known.
    nvcc: CUDA's compiler, a name or a path; "" if there is none.
    """

    command: str
    cmake_args: str = ""
    names_compiler: bool = False
    compiler_line: str | None = None
    nvcc: str = ""

    def build_line(
        self, toolchain: Toolchain, *, options: Sequence[str] = (), again: bool = True
    ) -> str:
        """Return the command that compiles and installs l4's tested version of llama-cpp-python.

        toolchain: the C++ compiler and the flags that it needs.
        options: more arguments for CMake, such as CUDA.
        again: whether to replace an installed build, leaving its dependencies alone.
        """
        arguments = with_flags(split_arguments(self.cmake_args), toolchain.flags)
        arguments += [option for option in options if option not in arguments]
        cmake_args = join_arguments(arguments)
        words = [f"CMAKE_ARGS={_quote(cmake_args)}"] if cmake_args else []
        if toolchain.compiler and (self.names_compiler or toolchain.compiler != _CMAKES_CHOICE):
            words.append(f"CXX={_quote(toolchain.compiler)}")
        if CUDA in options and Path(self.nvcc).is_absolute():
            words.append(f"CUDACXX={_quote(self.nvcc)}")
        words.append(self.command)
        if again:
            words += ["--force-reinstall", "--no-deps"]
        words += ["--no-cache-dir", "--no-binary", NAME, f"{NAME}=={TESTED_VERSION}"]
        return " ".join(words)

    def install_line(self, *requirements: str) -> str:
        """Return the command that installs packages."""
        return " ".join([self.command, *map(_quote, requirements)])


def installer() -> Installer:
    """Return how packages are installed here."""
    return Installer(
        _command(),
        os.environ.get("CMAKE_ARGS", "").strip(),
        bool(os.environ.get("CXX", "").strip()),
        _compiler_line(),
        _nvcc(),
    )


def extra_line(extra: str) -> str:
    """Return the command that installs the packages of one of l4's extras.

    It names the packages, because l4 itself may have been installed from a folder.
    """
    marker = f"extra == '{extra}'"
    found = [one.partition(";") for one in metadata.requires("l4") or ()]
    wanted = [name.strip() for name, _, when in found if when.strip().replace('"', "'") == marker]
    return installer().install_line(*wanted)


def _command() -> str:
    """Return the shortest command that installs into this environment."""
    found = shutil.which("pip")
    is_venv = sys.prefix != sys.base_prefix
    if is_venv and found and Path(found).parent.resolve() == _scripts().resolve():
        return "pip install"
    python = _quote(sys.executable or "python3")
    if shutil.which("uv") and not importlib.util.find_spec("pip"):
        return f"uv pip install --python {python}"
    return f"{python} -m pip install"


def _scripts() -> Path:
    return Path(sys.prefix) / ("Scripts" if os.name == "nt" else "bin")


def _compiler_line() -> str | None:
    if sys.platform == "darwin":
        return "xcode-select --install"
    found = next((line for name, line in _COMPILER_PACKAGES.items() if shutil.which(name)), None)
    is_root = not hasattr(os, "geteuid") or os.geteuid() == 0
    return found if found is None or is_root else f"sudo {found}"


def _nvcc() -> str:
    """Return CUDA's compiler: its name if CMake finds it, else its path, "" if there is none."""
    if shutil.which("nvcc") or os.environ.get("CUDACXX"):
        return "nvcc"
    return str(_NVCC) if os.access(_NVCC, os.X_OK) else ""


def _quote(text: str) -> str:
    """Quote a word for the shell. A word with single quotes in it gets double ones if possible."""
    if "'" in text and not set(text) & set('"$`\\!\n'):
        return f'"{text}"'
    return shlex.quote(text)
