"""All that `l4 doctor` finds out, in one value, and how it is collected."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

from l4cli.doctor.folders import Folder, folders
from l4cli.doctor.machine import (
    SMI_SECONDS,
    Cpu,
    Graphics,
    Memory,
    System,
    Terminal,
    cpu,
    graphics,
    memory,
    system,
    terminal,
)
from l4cli.doctor.software import Software, software
from l4cli.models.hub.reach import SECONDS as REACH_SECONDS
from l4cli.models.hub.reach import Reach, reach

T = TypeVar("T")

# Other variables that change what llama.cpp does, or how it is built.
_OTHER_VARIABLES = (
    "CMAKE_ARGS",
    "CXX",
    "CUDA_VISIBLE_DEVICES",
    "GGML_CPU_REPACK",
    "LD_PRELOAD",
    "OMP_NUM_THREADS",
)
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SPARE_SECONDS = 2.0  # that what asks others may take beyond its own limit


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in the environment. `value` None: it is a secret.

    `complaint` is what a command says of the value; `is_known` is False for a name of l4's that
    nothing reads.
    """

    name: str
    value: str | None
    is_known: bool = True
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set beside the options of a command. `config` None: there is no home to look in."""

    variables: tuple[Variable, ...] = ()
    config: Path | None = None
    has_config: bool = False
    config_complaint: str = ""

    def value(self, name: str) -> str | None:
        """The value of a variable; None where it is not set."""
        return next((each.value for each in self.variables if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is found out."""

    system: System
    software: Software
    cpu: Cpu
    memory: Memory
    graphics: Graphics
    folders: tuple[Folder, ...]
    hub: Reach
    terminal: Terminal
    settings: Settings


def collect(settings: Settings) -> Facts:
    """Find everything out; it takes as long as the self-test, the compiler and the Hub do.

    What depends on others (network, drivers, file systems) runs beside the rest, and is waited for
    no longer than it should take.
    """
    hub = _Beside(reach, Reach("", complaint=f"no answer within {REACH_SECONDS:.0f} s"))
    cards = _Beside(graphics, Graphics(driver_complaint="no answer"))
    places: _Beside[tuple[Folder, ...]] = _Beside(folders, ())
    tested = software()
    return Facts(
        system=system(),
        software=tested,
        cpu=_tried(cpu, Cpu()),
        memory=_tried(memory, Memory()),
        graphics=cards.result(SMI_SECONDS + _SPARE_SECONDS),
        folders=places.result(SMI_SECONDS),
        hub=hub.result(REACH_SECONDS + _SPARE_SECONDS),
        terminal=terminal(),
        settings=settings,
    )


def variables(known: frozenset[str], refused: Mapping[str, str]) -> tuple[Variable, ...]:
    """The variables of the environment that matter to l4.

    `known` are those that options are taken from, `refused` what is said of values that no option
    can have. Secrets stay secret.
    """
    found = []
    for name in sorted(os.environ):
        if not name.startswith("L4_") and name not in _OTHER_VARIABLES:
            continue
        is_secret = any(word in name.upper() for word in _SECRETS)
        complaint = refused.get(name, "")
        found.append(
            Variable(
                name,
                None if is_secret else os.environ[name],
                is_known=name in known or name in _OTHER_VARIABLES,
                complaint="its value is refused" if complaint and is_secret else complaint,
            )
        )
    return tuple(found)


def _tried(collect: Callable[[], T], fallback: T) -> T:
    try:
        return collect()
    except Exception:  # this machine is not like any that we know
        return fallback


class _Beside(Generic[T]):
    """A collector that runs in a thread, since it may have to wait for others."""

    def __init__(self, collect: Callable[[], T], fallback: T) -> None:
        self._collect, self._found = collect, fallback
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, seconds: float) -> T:
        """What was found, or the fallback where that takes longer."""
        self._thread.join(seconds)
        return self._found

    def _run(self) -> None:
        self._found = _tried(self._collect, self._found)
