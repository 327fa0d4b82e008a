"""Finds problems in the facts that `l4 doctor` collected, each with a command that solves it. Pure.

A problem is something wrong. A hint is something that could be better.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from l4cli.amounts import human_size
from l4cli.doctor.facts import Facts
from l4cli.doctor.folders import CACHE, HUB, STATE, Folder
from l4cli.doctor.mending import (
    AGAIN,
    Problem,
    build_line,
    lines_for_a_compiler,
    mended_by_building,
)
from l4cli.doctor.software import in_short
from l4cli.native.build import NAME, TESTED_VERSION
from l4cli.native.rebuild import CUDA
from l4cli.native.toolchain import Verdict

LEAST_FREE = 10**9  # bytes that should be free on the cache's disk
_WORTH_REMOVING = 10**8  # bytes of a folder in the cache

# Instruction sets, from the Linux kernel's names to llama.cpp's. Without _NEEDED a build is much
# slower, without _BETTER somewhat. Only newer compilers support _AMX.
_NEEDED = {"avx": "AVX", "avx2": "AVX2", "fma": "FMA", "f16c": "F16C", "asimddp": "DOTPROD"}
_BETTER = {"avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "i8mm": "MATMUL_INT8"}
_AMX = {"amx_int8": "AMX_INT8"}


def problems(facts: Facts) -> list[Problem]:
    """Return all problems, then all hints."""
    found = [*_llama_cpp(facts), *_graphics(facts)]
    needs_build = any(each.needs_build for each in found)
    found += [*_folders(facts), *_settings(facts), *_others(facts)]
    if not needs_build:
        found += _compiler(facts)
    return sorted(found, key=lambda each: each.is_hint)


def _llama_cpp(facts: Facts) -> Iterator[Problem]:
    build = facts.software.build
    if build is None:
        text = f"{NAME} is not installed: no model can be loaded"
        yield mended_by_building(facts, text, again=False)
        return
    yield from _self_test(facts)
    if facts.software.outcome.loads:
        yield from _features(facts)
    if build.version != TESTED_VERSION and facts.software.outcome.is_fine:
        yield mended_by_building(
            facts,
            f"{NAME} is {build.version}; l4 is tested with {TESTED_VERSION}",
        )


def _self_test(facts: Facts) -> Iterator[Problem]:
    software = facts.software
    trial, outcome = software.trial, software.outcome
    version = software.build.version if software.build else ""
    said = trial.complaint or (outcome.reason if outcome.is_fine else "")
    if said:
        yield _untested(facts, said)
    elif not outcome.loads:
        yield mended_by_building(
            facts,
            f"llama.cpp {outcome.reason} on this processor ({facts.cpu.model or 'unknown'}): no "
            f"model can be loaded{_cause(facts)}",
        )
    elif not outcome.defaults:
        yield mended_by_building(
            facts,
            f"l4 does not support the llama.cpp in {NAME} {version}, only that in "
            f"{TESTED_VERSION}: no model can be loaded",
        )
    else:
        if not outcome.extra_buffers:
            yield mended_by_building(
                facts,
                f"llama.cpp {outcome.reason} with repacked weights: l4 runs without them, "
                f"more slowly{_cause(facts)}",
            )
        if not outcome.states or not outcome.moving:
            lost = ["keep the reading cache"] if not outcome.states else []
            lost += ["use a second context for prompts"] if not outcome.moving else []
            yield mended_by_building(
                facts,
                f"the llama.cpp in {NAME} {version} does not work like that in "
                f"{TESTED_VERSION}: l4 does not {' or '.join(lost)}",
            )
    if said and _drops_stores(facts):
        yield mended_by_building(facts, f"llama.cpp may crash{_cause(facts)}")


def _untested(facts: Facts, said: str) -> Problem:
    """Return the problem that the self-test could not be run.

    `said` is the error that ended it before it could try llama.cpp.
    """
    installer = facts.software.installer
    reason = in_short(said)
    text = f"the self-test could not be run: {reason}"
    missing = re.search(r"No module named '(\w+)", said)
    if missing and missing[1] != "llama_cpp":
        return Problem(text, (installer.install_line(missing[1]),))
    if "cannot be loaded" in said:  # the words of engine/llamacpp/__init__.py
        return mended_by_building(facts, f"{reason}: no model can be used")
    if "temporary directory" in said or "No space left" in said:
        return Problem(text, ('export TMPDIR="$HOME"',))
    python = shlex.quote(facts.system.executable or "python3")
    return Problem(text, (f"{python} -m l4cli.engine.llamacpp.selftest",))


def _cause(facts: Facts) -> str:
    """Return why this build crashes here, as words to append to a sentence; "" if unknown."""
    software = facts.software
    known = {**_NEEDED, **_BETTER, **_AMX}
    lacking = [
        name
        for feature, name in known.items()
        if name in software.features and feature not in facts.cpu.features
    ]
    if lacking and facts.cpu.features:
        return f"; it was compiled for a processor with {', '.join(lacking)}"
    if _drops_stores(facts):
        return "; the compiler drops AMX's stores, and the build lacks the flags that prevent it"
    return ""


def _drops_stores(facts: Facts) -> bool:
    """Whether the compiler breaks AMX's kernels and the build lacks the flags against it.

    The flags of a build that pip made are unknown; it counts as made without them.
    """
    toolchain, build = facts.software.toolchain, facts.software.build
    if toolchain is None or build is None or not toolchain.flags:
        return False
    made_with = str(build.recipe.get("cmake_args", ""))
    return not all(flag in made_with for flag in toolchain.flags)


def _features(facts: Facts) -> Iterator[Problem]:
    """Yield a problem for instruction sets of this processor that the build does not use."""
    software, cpu = facts.software, facts.cpu
    if not software.features:
        return
    toolchain = software.toolchain
    better = {**_BETTER, **_AMX} if toolchain and toolchain.uses_amx else _BETTER
    for wanted, is_hint in ((_NEEDED, False), (better, True)):
        unused = [
            name
            for feature, name in wanted.items()
            if feature in cpu.features and name not in software.features
        ]
        if unused:
            yield mended_by_building(
                facts,
                f"llama.cpp was built without {', '.join(unused)}, which this processor has: "
                "it is slower than it could be",
                is_hint=is_hint,
            )


def _graphics(facts: Facts) -> Iterator[Problem]:
    software, graphics = facts.software, facts.graphics
    if software.gpu_support is False and graphics.has_nvidia:
        nvcc = (
            "" if software.installer.nvcc else "; the build needs the CUDA toolkit (no nvcc here)"
        )
        yield mended_by_building(
            facts,
            f"there is an NVIDIA card, and llama.cpp was built without support for it{nvcc}",
            options=(CUDA,),
        )
    elif software.gpu_support and not software.seen_cards:
        text = "llama.cpp was built for graphics cards and sees none: it computes on the processor"
        if facts.settings.value("CUDA_VISIBLE_DEVICES") in ("", "-1"):
            yield Problem(
                f"{text}; CUDA_VISIBLE_DEVICES hides them", ("unset CUDA_VISIBLE_DEVICES",)
            )
        elif graphics.has_nvidia:
            why = graphics.driver_complaint or "the driver may be older than the build"
            yield Problem(f"{text}; {why}", ("nvidia-smi",))
        else:
            yield Problem(
                f"{text}; give this container access to a card, or build llama.cpp without CUDA",
                (build_line(facts, ("-DGGML_CUDA=off",)),),
            )


def _folders(facts: Facts) -> Iterator[Problem]:
    for folder in facts.folders:
        if folder.path is None:
            yield Problem(
                f"there is no home folder ({folder.complaint.lower()}): nothing can be saved",
                ('export HOME="$(mktemp -d)"',),
            )
            return
    for folder in facts.folders:
        is_short = folder.free is not None and folder.free < LEAST_FREE
        if folder.name == CACHE and is_short:
            yield _no_room(folder)
        elif folder.complaint and folder.name in (CACHE, STATE, HUB):
            yield _not_writable(folder)


def _no_room(folder: Folder) -> Problem:
    text = f"{human_size(folder.free or 0)} are left on the disk of the cache, {folder.path}"
    largest = max(folder.entries, key=lambda entry: entry.size.n_bytes, default=None)
    if largest and largest.size.n_bytes >= _WORTH_REMOVING and folder.path:
        size = human_size(largest.size.n_bytes)
        return Problem(
            f"{text}; its {largest.name} take {size} and can be made again",
            (f"rm -r {shlex.quote(str(folder.path / largest.name))}",),
        )
    return Problem(text, (_elsewhere(folder),))


def _not_writable(folder: Folder) -> Problem:
    if folder.name == HUB:
        return Problem(
            f"nothing can be pulled into the Hub's cache, {folder.path}: {folder.complaint}",
            ('export HF_HOME="$(mktemp -d)"',),
            is_hint=True,
        )
    return Problem(
        f"nothing can be written into the {folder.name} folder, {folder.path}: {folder.complaint}",
        (_elsewhere(folder),),
    )


def _elsewhere(folder: Folder) -> str:
    return f'export XDG_{folder.name.upper()}_HOME="$(mktemp -d)"'


def _settings(facts: Facts) -> Iterator[Problem]:
    settings = facts.settings
    if settings.config_complaint and settings.config:
        path = shlex.quote(str(settings.config))
        yield Problem(
            f"no other command starts with this config.toml: {settings.config_complaint}",
            (f"${{EDITOR:-vi}} {path}",),
        )
    for each in settings.variables:
        if each.complaint:
            value = "" if each.value is None else f"={each.value}"
            yield Problem(f"{each.name}{value}: {each.complaint}", (f"unset {each.name}",))
        elif not each.is_known:
            yield Problem(
                f"{each.name} is set, and nothing reads it", (f"unset {each.name}",), True
            )


def _others(facts: Facts) -> Iterator[Problem]:
    usable = facts.cpu.usable
    if usable is not None and usable < 1:
        yield Problem(
            f"this container may use {usable:.2g} of a core: give it more, as with `docker run "
            "--cpus 2`",
            is_hint=True,
        )
    if not facts.software.has_numba:
        yield Problem(
            "numba is not installed: quantizing Q4_K, Q5_K and Q6_K takes several times as long",
            (facts.software.installer.install_line("numba>=0.61"),),
            is_hint=True,
        )
    if not facts.terminal.is_utf8:
        yield Problem(
            f"the terminal's encoding is {facts.terminal.encoding}, and l4 writes UTF-8",
            ("export LC_ALL=C.UTF-8",),
            is_hint=True,
        )
    hub = facts.hub
    if hub.complaint:
        where = f"the Hub ({hub.endpoint})" if hub.endpoint else "the Hub"
        check = f"curl -sSI {shlex.quote(hub.endpoint)}" if hub.endpoint else AGAIN
        yield Problem(
            f"{where} cannot be reached, so nothing can be pulled: {hub.complaint}",
            (check if hub.is_default else "unset HF_ENDPOINT",),
            is_hint=True,
        )


def _compiler(facts: Facts) -> Iterator[Problem]:
    toolchain, other = facts.software.toolchain, facts.software.other_toolchain
    if toolchain is None or toolchain.can_build:
        return
    what = "there is no C++ compiler"
    if toolchain.verdict is Verdict.TOO_OLD:
        what = f"{toolchain.compiler} is too old to build llama.cpp"
    elif facts.software.installer.names_compiler:
        what = f"CXX names {toolchain.compiler}, which is not there"
    if other is not None:
        yield Problem(
            f"{what}; {other.compiler} can be used", (f"export CXX={other.compiler}",), True
        )
        return
    remedies = lines_for_a_compiler(facts, toolchain)
    yield Problem(f"{what}: llama.cpp could not be built again", remedies, is_hint=True)
