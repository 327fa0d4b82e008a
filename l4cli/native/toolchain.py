"""Finds out whether the C++ compiler compiles llama.cpp correctly here, and which flags it needs.

llama.cpp is compiled for this machine's processor (`-march=native`). On processors with AMX its
kernels fill a tile configuration on the stack and load it with `_tile_loadconfig`. In gcc before
11.5, 12.4 and 13.3 this intrinsic names only the first 8 of the 64 bytes as its input
(https://gcc.gnu.org/PR114098), so the compiler drops the other stores, and the kernels crash or
compute wrong sums. Version numbers are no help, because distributions patch their compilers.
Instead, a small program with the same lines is compiled with the same flags, and run.

This module needs only the standard library. `python3 -m l4cli.native.toolchain` prints the value of
CMAKE_ARGS with which llama-cpp-python should be built here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from l4cli.native.cpu import cpu_features

_TIMEOUT = 60  # seconds for one compilation; it takes half a second
# The compilers that CMake looks for, in its order.
_COMPILERS = ("c++", "g++", "clang++")
_LIKE_LLAMA_CPP = ("-std=c++17", "-O3", "-DNDEBUG")
_NATIVE = ("-march=native",)
KEEP_STORES = ("-fno-tree-dse", "-fno-dse")
NO_AMX = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")

# Exit codes of the probe.
_FINE, _WRONG_TILES = 0, 3

PROBE = r"""
#include <cstdio>
#include <cstring>
#include <string_view>

#if defined(__AMX_TILE__) && defined(__AMX_INT8__)
#include <immintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

struct tile_config { unsigned char palette, start, zero[14]; unsigned short colsb[16];
                     unsigned char rows[16]; };

__attribute__((noinline)) static void fill_stack() {
    volatile unsigned char rubbish[4096];
    for (unsigned i = 0; i < sizeof rubbish; i++) rubbish[i] = 0xFF;
}

__attribute__((noinline)) static void load_config() {
    alignas(64) tile_config tc = {};
    tc.palette = 1;
    for (int i = 0; i < 8; i++) { tc.rows[i] = i < 2 ? 8 : 16; tc.colsb[i] = 64; }
    _tile_loadconfig(&tc);
}

static int check_tiles() {
#if defined(__linux__)
    if (syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */)) return 0;
#endif
    fill_stack();
    load_config();
    alignas(64) tile_config loaded;
    memset(&loaded, 0, sizeof loaded);
    _tile_storeconfig(&loaded);
    asm volatile("" ::: "memory");
    for (int i = 0; i < 8; i++)
        if (loaded.rows[i] != (i < 2 ? 8 : 16) || loaded.colsb[i] != 64) return 3;
    alignas(64) static signed char a[16 * 64], b[16 * 64];
    alignas(64) static int c[16 * 16];
    memset(a, 1, sizeof a); memset(b, 2, sizeof b);
    _tile_loadd(2, a, 64); _tile_loadd(3, b, 64); _tile_zero(4);
    _tile_dpbssd(4, 2, 3);
    _tile_stored(4, c, 64);
    _tile_release();
    for (int i = 0; i < 256; i++) if (c[i] != 128) return 3;
    return 0;
}
#define HAS_AMX "amx"
#else
static int check_tiles() { return 0; }
#define HAS_AMX ""
#endif

int main() {
    if constexpr (std::string_view("c++17").size() == 5) std::printf("%s", HAS_AMX);
    std::fflush(stdout);
    return check_tiles();
}
"""


class Verdict(Enum):
    """The outcome of the probe."""

    FINE = "fine"
    KEEPS_STORES = "fine with flags that stop it from dropping AMX's stores"
    WITHOUT_AMX = "fine without AMX"
    NO_COMPILER = "there is no C++ compiler"
    TOO_OLD = "the C++ compiler does not know C++17"
    UNKNOWN = "the probe could not be run"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The C++ compiler that llama.cpp will be built with, and the flags that it needs.

    compiler: its command. version: the first line of its `--version`.
    verdict: the outcome of the probe.
    flags: flags for C++ files in addition to llama.cpp's own.
    uses_amx: whether AMX kernels are compiled in.
    reason: if it failed, its first error message, or why it could not be tried.
    """

    compiler: str
    version: str
    verdict: Verdict
    flags: tuple[str, ...] = ()
    uses_amx: bool = False
    reason: str = ""

    @property
    def can_build(self) -> bool:
        return self.verdict not in (Verdict.NO_COMPILER, Verdict.TOO_OLD)

    @property
    def cmake_args(self) -> str:
        """The value of CMAKE_ARGS for llama-cpp-python; "" if no flags are needed."""
        return shlex.quote(f"-DCMAKE_CXX_FLAGS={' '.join(self.flags)}") if self.flags else ""

    @property
    def problem(self) -> str | None:
        """A line on why llama.cpp cannot be built and what to do; None if it can be built."""
        if self.verdict is Verdict.NO_COMPILER:
            return (
                "llama.cpp is compiled when it is installed, and there is no C++ compiler here: "
                "install one (Debian and Ubuntu: apt install build-essential; Fedora: "
                "dnf install gcc-c++; macOS: xcode-select --install) or name it in CXX"
            )
        if self.verdict is Verdict.TOO_OLD:
            return (
                f"{self.compiler} ({self.version or 'unknown version'}) cannot compile C++17, "
                f"which llama.cpp needs: {self.reason or 'it gave no reason'}; name another "
                "compiler in CXX, such as CXX=g++-12"
            )
        return None


def examine(compiler: str | None = None) -> Toolchain:
    """Compile and run the probe with llama.cpp's flags, then with additional ones until it works.

    `compiler` is a command; None is the one that CMake would use ($CXX, c++, g++, clang++).
    A broken compiler raises no exception; the verdict tells.
    """
    try:
        command = shlex.split(compiler or os.environ.get("CXX") or "") or _first_compiler()
    except ValueError:  # an unclosed quotation mark
        command = []
    if not command or not shutil.which(command[0]):
        return Toolchain(" ".join(command), "", Verdict.NO_COMPILER)
    name, version = " ".join(command), _version(command)
    try:
        folder_of_probe = tempfile.TemporaryDirectory(prefix="l4-probe-")
    except OSError as error:
        return _untried(name, version, str(error))
    with folder_of_probe as folder:
        for flags, verdict in (
            ((), Verdict.FINE),
            (KEEP_STORES, Verdict.KEEPS_STORES),
            (NO_AMX, Verdict.WITHOUT_AMX),
        ):
            try:
                outcome = _try(command, flags, Path(folder))
            except (OSError, subprocess.SubprocessError) as error:
                return _untried(name, version, str(error))
            if isinstance(outcome, str):
                if not flags:
                    return Toolchain(name, version, Verdict.TOO_OLD, reason=outcome)
                continue  # this compiler does not know the flags
            if outcome.returncode == _FINE:
                uses_amx = outcome.stdout == b"amx"
                return Toolchain(name, version, verdict, flags, uses_amx)
    return _untried(name, version, "the probe fails with every flag")


def _untried(name: str, version: str, reason: str) -> Toolchain:
    """Return the Toolchain of a compiler that could not be tried. It builds without AMX."""
    flags = NO_AMX if "amx_tile" in cpu_features() else ()
    return Toolchain(name, version, Verdict.UNKNOWN, flags, reason=reason)


def _try(
    command: Sequence[str], flags: Sequence[str], folder: Path
) -> subprocess.CompletedProcess[bytes] | str:
    """Compile the probe with these flags and run it.

    Returns the finished run, or the compiler's first error message.
    """
    source, program = folder / "probe.cpp", folder / "probe"
    source.write_text(PROBE)
    for native in (_NATIVE, ()):  # for some processors, some compilers do not support the flag
        # CMake puts CMAKE_CXX_FLAGS before a target's own options.
        options = [*flags, *_LIKE_LLAMA_CPP, *native]
        arguments = [*command, *options, str(source), "-o", str(program)]
        made = subprocess.run(arguments, capture_output=True, timeout=_TIMEOUT, check=False)
        if not made.returncode:
            break
    else:
        return _first_error(made.stderr.decode("utf-8", "replace"))
    return subprocess.run([program], capture_output=True, timeout=_TIMEOUT, check=False)


def _first_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [""])[0]


def _first_compiler() -> list[str]:
    return next(([name] for name in _COMPILERS if shutil.which(name)), [])


def _version(command: Sequence[str]) -> str:
    try:
        said = subprocess.run(
            [*command, "--version"], capture_output=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.decode("utf-8", "replace").partition("\n")[0].strip()


def main() -> None:
    """Print the value of CMAKE_ARGS; exit with code 2 if llama.cpp cannot be built."""
    toolchain = examine()
    if toolchain.problem:
        sys.stderr.write(f"l4: {toolchain.problem}\n")
        sys.exit(2)
    print(toolchain.cmake_args)  # noqa: T201


if __name__ == "__main__":
    main()
