"""Collects facts about llama.cpp: its build, its self-test, the compiler for another build."""

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
    """A run of the self-test. `outcome` is None if it could not run; `complaint` says why."""

    outcome: Outcome | None = None
    seconds: float = 0.0
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Software:
    """llama.cpp and the compiler that can build it.

    build: the installed build; None if there is none.
    trial: the self-test.
    toolchain: the compiler that a build would use; None if it could not be tried.
    installer: how packages are installed.
    has_numba: whether numba is installed.
    other_toolchain: if `toolchain` cannot build llama.cpp, another compiler here that can, or None.
    """

    build: Build | None
    trial: Trial
    toolchain: Toolchain | None
    installer: Installer
    has_numba: bool
    other_toolchain: Toolchain | None = None

    @property
    def outcome(self) -> Outcome:
        """The self-test's outcome. If it was not run, no problem of the build is known."""
        return self.trial.outcome or Outcome(is_certain=False)

    @property
    def system_info(self) -> str:
        """The features that llama.cpp was built with, as it prints them; "" if unknown."""
        return str(self.outcome.library.get("system_info", ""))

    @property
    def features(self) -> frozenset[str]:
        """The instruction sets that llama.cpp was built with, by its names; empty if unknown."""
        return frozenset(map(str, self.outcome.library.get("features", ())))

    @property
    def gpu_support(self) -> bool | None:
        """Whether llama.cpp was built for graphics cards; None if unknown."""
        found = self.outcome.library.get("gpu_support")
        return found if isinstance(found, bool) else None

    @property
    def seen_cards(self) -> tuple[str, ...]:
        """The names of the graphics cards that llama.cpp sees."""
        return tuple(str(card.get("name", "")) for card in self.outcome.library.get("gpus", ()))


def software() -> Software:
    """Find the installed build, test it in a child process, and test the compiler."""
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
    except Exception:  # the installed package's metadata is damaged
        return None


def trial() -> Trial:
    """Run the self-test, even if an outcome is known."""
    began = time.monotonic()
    try:
        outcome = selftest.renew()
    except Exception as error:  # no process can be started, no memory, …
        return Trial(complaint=f"{type(error).__name__}: {error}")
    return Trial(outcome, time.monotonic() - began)


def _examined(compiler: str | None = None) -> Toolchain | None:
    try:
        return examine(compiler)
    except Exception:  # such as a full disk, or a CXX that is not a command line
        return None


def _other_toolchain() -> Toolchain | None:
    """Return the first compiler with a well-known name that can build llama.cpp."""
    for name in _OTHER_COMPILERS:
        if shutil.which(name):
            found = _examined(name)
            if found and found.can_build:
                return found
    return None


def in_short(said: str) -> str:
    """Return a child process's error message without the exception's class and the advice."""
    return said.partition(": `l4 doctor`")[0].rpartition("Error: ")[2]
