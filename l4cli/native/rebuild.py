"""The lines that build llama-cpp-python for this machine, to be pasted into a shell."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from l4cli.native.build import NAME, TESTED_VERSION
from l4cli.native.cmake import join_arguments, split_arguments, with_flags
from l4cli.native.toolchain import Toolchain

CUDA = "-DGGML_CUDA=on"
_CMAKES_CHOICE = "c++"
_NVCC = Path("/usr/local/cuda/bin/nvcc")  # where NVIDIA's packages put it, and CMake does not look

# What brings a C++ compiler, by the package manager that is there.
_COMPILER_PACKAGES = {
    "apt-get": "apt-get install -y build-essential",
    "dnf": "dnf install -y gcc-c++ make",
    "zypper": "zypper install -y gcc-c++ make",
    "pacman": "pacman -S --noconfirm base-devel",
    "apk": "apk add build-base",
}


@dataclass(frozen=True, slots=True)
class Installer:
    """How packages get into the environment that l4 runs in.

    `command` is the one to which packages are added: `pip install`, or uv's, which understands
    pip's options. `cmake_args` and `names_compiler` are of the variables CMAKE_ARGS and CXX: a
    build is made with them, too. `compiler_line` installs a C++ compiler; None where nobody knows
    how. `nvcc` is CUDA's compiler, "" where there is none.
    """

    command: str
    cmake_args: str = ""
    names_compiler: bool = False
    compiler_line: str | None = None
    nvcc: str = ""

    def build_line(
        self, toolchain: Toolchain, *, options: Sequence[str] = (), again: bool = True
    ) -> str:
        """The line that compiles and installs the version of llama-cpp-python that l4 knows.

        `toolchain` has the C++ compiler, `options` are more arguments for CMake, such as CUDA. With
        `again` what is installed is replaced, and what it depends on is left alone.
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
        """The line that installs packages."""
        return " ".join([self.command, *map(_quote, requirements)])


def installer() -> Installer:
    """How packages are installed here."""
    return Installer(
        _command(),
        os.environ.get("CMAKE_ARGS", "").strip(),
        bool(os.environ.get("CXX", "").strip()),
        _compiler_line(),
        _nvcc(),
    )


def _command() -> str:
    """The shortest command that installs into this environment, and whether it is uv's."""
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
    """CUDA's compiler: its name where CMake finds it, else its path."""
    if shutil.which("nvcc") or os.environ.get("CUDACXX"):
        return "nvcc"
    return str(_NVCC) if os.access(_NVCC, os.X_OK) else ""


def _quote(text: str) -> str:
    """A word for the shell; what has single quotation marks in it gets double ones, if it can."""
    if "'" in text and not set(text) & set('"$`\\!\n'):
        return f'"{text}"'
    return shlex.quote(text)
