"""Problems, and the shell commands that install another build of llama.cpp, or a compiler. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from l4cli.doctor.facts import Facts
from l4cli.native.cmake import split_arguments
from l4cli.native.rebuild import CUDA
from l4cli.native.toolchain import Toolchain, Verdict

AGAIN = "l4 doctor"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong, or could be better.

    text: one sentence.
    remedies: lines to paste into a shell.
    is_hint: whether it could be better, but is not wrong.
    needs_build: whether the remedy is another build of llama.cpp.
    """

    text: str
    remedies: tuple[str, ...] = ()
    is_hint: bool = False
    needs_build: bool = False


def mended_by_building(
    facts: Facts,
    text: str,
    *,
    options: Sequence[str] = (),
    again: bool = True,
    is_hint: bool = False,
) -> Problem:
    """Return a problem whose remedy is to build llama.cpp again.

    If there is no compiler that can do it, the remedy is to get one.

    options: more arguments for CMake. again: whether a build is installed already.
    """
    toolchain = facts.software.toolchain
    if toolchain is None or toolchain.can_build or facts.software.other_toolchain:
        return Problem(text, (build_line(facts, options, again=again),), is_hint, True)
    why = "there is no C++ compiler to build it with"
    if toolchain.verdict is Verdict.TOO_OLD:
        why = f"{toolchain.compiler} is too old to build it with"
    return Problem(f"{text}; {why}", lines_for_a_compiler(facts, toolchain), is_hint, True)


def build_line(facts: Facts, options: Sequence[str] = (), *, again: bool = True) -> str:
    """Return the command that builds llama.cpp for this machine.

    options: more arguments for CMake. again: whether to replace an installed build.
    """
    software = facts.software
    toolchain = software.toolchain or Toolchain("", "", Verdict.UNKNOWN)
    if not toolchain.can_build and software.other_toolchain:
        toolchain = software.other_toolchain
    return software.installer.build_line(
        toolchain, options=[*_kept_options(facts, options), *options], again=again
    )


def _kept_options(facts: Facts, options: Sequence[str]) -> list[str]:
    """Return CMake arguments to keep from the installed build, and CUDA if it can be used."""
    build, graphics = facts.software.build, facts.graphics
    kept = []
    if build is not None:
        made_with = split_arguments(str(build.recipe.get("cmake_args", "")))
        kept = [each for each in made_with if each.startswith("-DGGML_")]
    if graphics.has_nvidia and (facts.software.installer.nvcc or facts.software.gpu_support):
        kept.append(CUDA)
    replaced = {each.partition("=")[0] for each in options}
    return [each for each in dict.fromkeys(kept) if each.partition("=")[0] not in replaced]


def lines_for_a_compiler(facts: Facts, toolchain: Toolchain) -> tuple[str, ...]:
    """Return the commands that install a compiler for llama.cpp and run `l4 doctor` again.

    That run then shows the build command with the compiler's flags.
    """
    installer = facts.software.installer
    if toolchain.verdict is Verdict.TOO_OLD:
        return (f"CXX=g++-12 {AGAIN}",)
    if installer.names_compiler:
        return (f"unset CXX; {AGAIN}",)
    return (installer.compiler_line, AGAIN) if installer.compiler_line else (AGAIN,)
