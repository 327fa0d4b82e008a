"""What `l4 doctor` tells of llama.cpp: its build, its self-test, the compiler for another build."""

from __future__ import annotations

import importlib.util
import shutil
import time
from dataclasses import dataclass, replace

from l4cli.native import selftest
from l4cli.native.build import Build, installed_build, installed_recipe
from l4cli.native.rebuild import Installer, installer
from l4cli.native.selftest import Outcome
from l4cli.native.toolchain import Toolchain, examine

_OTHER_COMPILERS = (
    *("c++", "g++", "clang++"),
    *(f"g++-{number}" for number in range(19, 7, -1)),
    *(f"clang++-{number}" for number in range(24, 8, -1)),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """The self-test as it ran just now. `outcome` None: it was not run, `complaint` says why."""

    outcome: Outcome | None = None
    seconds: float = 0.0
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Software:
    """llama.cpp and what builds it.

    `build` is None where none is installed. `toolchain` has the compiler that a build would take,
    None if it could not be tried; where that one cannot build llama.cpp, `other_toolchain` has one
    that can, if there is any here.
    """

    build: Build | None
    trial: Trial
    toolchain: Toolchain | None
    installer: Installer
    has_numba: bool
    other_toolchain: Toolchain | None = None

    @property
    def outcome(self) -> Outcome:
        """What the self-test found; where it was not run, nothing is known against the build."""
        return self.trial.outcome or Outcome(is_certain=False)

    @property
    def system_info(self) -> str:
        """What llama.cpp prints of the features it was built with; "" where it did not."""
        return str(self.outcome.library.get("system_info", ""))

    @property
    def features(self) -> frozenset[str]:
        """The instruction sets that llama.cpp was built with, in its words; empty if unknown."""
        return frozenset(map(str, self.outcome.library.get("features", ())))

    @property
    def gpu_support(self) -> bool | None:
        """Whether llama.cpp was built for graphics cards; None where it did not say."""
        found = self.outcome.library.get("gpu_support")
        return found if isinstance(found, bool) else None

    @property
    def seen_cards(self) -> tuple[str, ...]:
        """The names of the graphics cards that llama.cpp sees."""
        return tuple(str(card.get("name", "")) for card in self.outcome.library.get("gpus", ()))


def software() -> Software:
    """Look for the build, try it in a child process, and try the compiler."""
    build = _build()
    toolchain = _examined()
    return Software(
        build,
        trial() if build else Trial(complaint="there is nothing to test"),
        toolchain,
        installer(),
        importlib.util.find_spec("numba") is not None,
        None if toolchain is None or toolchain.can_build else _other_toolchain(),
    )


def _build() -> Build | None:
    try:
        build = installed_build()
        return build and replace(build, recipe=installed_recipe())
    except Exception:  # what pip knows of it is damaged
        return None


def trial() -> Trial:
    """Run the self-test, whatever was found before."""
    began = time.monotonic()
    try:
        outcome = selftest.renew()
    except Exception as error:  # no process to be had, no memory, ...
        return Trial(complaint=f"{type(error).__name__}: {error}")
    return Trial(outcome, time.monotonic() - began)


def _examined(compiler: str | None = None) -> Toolchain | None:
    try:
        return examine(compiler)
    except Exception:  # such as no room for its files, or a CXX that is no command line
        return None


def _other_toolchain() -> Toolchain | None:
    """The first of the compilers with well-known names that can build llama.cpp."""
    for name in _OTHER_COMPILERS:
        if shutil.which(name):
            found = _examined(name)
            if found and found.can_build:
                return found
    return None


def in_short(said: str) -> str:
    """What went wrong in a child process, without the error's class and with no advice."""
    return said.partition(": `l4 doctor`")[0].rpartition("Error: ")[2]
