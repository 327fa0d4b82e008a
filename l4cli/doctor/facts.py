"""Collects everything that `l4 doctor` finds out into one value, `Facts`."""

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

# Variables without the prefix L4_ that change what llama.cpp does, or how it is built.
_OTHER_VARIABLES = (
    "CMAKE_ARGS",
    "CXX",
    "CUDA_VISIBLE_DEVICES",
    "GGML_CPU_REPACK",
    "LD_PRELOAD",
    "OMP_NUM_THREADS",
)
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SPARE_SECONDS = 2.0  # that a collector may take beyond its own time limit


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in the environment.

    value: None if it is a secret.
    is_known: False if its name begins with L4_ but nothing reads it.
    complaint: a command's error about the value; "" if there is none.
    """

    name: str
    value: str | None
    is_known: bool = True
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings from the environment and config.toml.

    config: the path of config.toml; None if there is no home folder.
    has_config: whether the file exists.
    config_complaint: the error in it; "" if there is none.
    """

    variables: tuple[Variable, ...] = ()
    config: Path | None = None
    has_config: bool = False
    config_complaint: str = ""

    def value(self, name: str) -> str | None:
        """Return the value of a variable; None if it is not set."""
        return next((each.value for each in self.variables if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that `l4 doctor` finds out."""

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
    """Collect all facts. The self-test, the compiler and the Hub take most of the time.

    Collectors that depend on the network, drivers or file systems run in threads, and each of them
    is waited for only until its time limit.
    """
    hub = _Background(reach, Reach("", complaint=f"no answer within {REACH_SECONDS:.0f} s"))
    cards = _Background(graphics, Graphics(driver_complaint="no answer"))
    places: _Background[tuple[Folder, ...]] = _Background(folders, ())
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
    """Return the variables of the environment that matter to l4, without the values of secrets.

    known: the names of variables that set options.
    refused: error messages by name, for values that the options do not accept.
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
    except Exception:  # an unusual machine must not stop the other collectors
        return fallback


class _Background(Generic[T]):
    """A collector that runs in a thread, because it may have to wait for long."""

    def __init__(self, collect: Callable[[], T], fallback: T) -> None:
        self._collect, self._found = collect, fallback
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, seconds: float) -> T:
        """Return what the collector found, or the fallback if it takes longer."""
        self._thread.join(seconds)
        return self._found

    def _run(self) -> None:
        self._found = _tried(self._collect, self._found)
