"""Problems, and the lines to paste into a shell that mend them: another build, a compiler. Pure."""

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
    """A sentence on what is wrong, and lines to paste into a shell that mend it.

    `needs_build`: it takes another build of llama.cpp.
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
    """A problem that another build of llama.cpp mends, made by the compiler that can."""
    toolchain = facts.software.toolchain
    if toolchain is None or toolchain.can_build or facts.software.other_toolchain:
        return Problem(text, (build_line(facts, options, again=again),), is_hint, True)
    why = "there is no C++ compiler to build it with"
    if toolchain.verdict is Verdict.TOO_OLD:
        why = f"{toolchain.compiler} is too old to build it with"
    return Problem(f"{text}; {why}", lines_for_a_compiler(facts, toolchain), is_hint, True)


def build_line(facts: Facts, options: Sequence[str] = (), *, again: bool = True) -> str:
    """The line that builds llama.cpp for this machine; `options` are more arguments for CMake."""
    software = facts.software
    toolchain = software.toolchain or Toolchain("", "", Verdict.UNKNOWN)
    if not toolchain.can_build and software.other_toolchain:
        toolchain = software.other_toolchain
    return software.installer.build_line(
        toolchain, options=[*_kept_options(facts, options), *options], again=again
    )


def _kept_options(facts: Facts, options: Sequence[str]) -> list[str]:
    """What the next build is to have of the installed one, and CUDA where it can be used."""
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
    """What brings a compiler that can build llama.cpp; with it, doctor knows its flags."""
    installer = facts.software.installer
    if toolchain.verdict is Verdict.TOO_OLD:
        return (f"CXX=g++-12 {AGAIN}",)
    if installer.names_compiler:
        return (f"unset CXX; {AGAIN}",)
    return (installer.compiler_line, AGAIN) if installer.compiler_line else (AGAIN,)
