"""Collects facts about the machine: system, processor, memory, graphics cards, terminal."""

from __future__ import annotations

import locale
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from l4cli import __version__
from l4cli.native.cpu import cpu_features, cpu_model, num_physical_cores, usable_cores
from l4cli.native.memory import container_limit, free_memory_bytes, machine_bytes

# Instruction sets for which llama.cpp has kernels, by the Linux kernel's names.
_FEATURES = ("avx", "avx2", "fma", "f16c", "avx_vnni", "asimd", "asimddp", "asimdhp", "i8mm")
_MORE_FEATURES = re.compile(r"(avx512|avx10|amx_|sve).*|sme2?")
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
_DISPLAY = "0x03"  # prefix of a graphics card's class on the PCI bus
_SYS = Path("/sys")
_SMI = "nvidia-smi"
_SMI_QUERY = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
SMI_SECONDS = 5


@dataclass(frozen=True, slots=True)
class System:
    """l4, the Python it runs in, and the operating system."""

    l4: str
    python: str
    executable: str
    prefix: str
    os: str
    kernel: str
    machine: str


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor; None and "" are unknown.

    num_cores: logical cores of the machine. usable: how many of them this process may use.
    num_physical: threads with which llama.cpp runs best, one per physical core.
    features: instruction sets for which llama.cpp has kernels.
    """

    model: str = ""
    num_cores: int | None = None
    usable: float | None = None
    num_physical: int | None = None
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes, None if unknown. `limit` is a container's; None if there is none."""

    total: int | None = None
    free: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class NvidiaCard:
    """A card as NVIDIA's driver reports it. Its memory is in bytes, None if not reported."""

    name: str
    memory: int | None
    driver: str


@dataclass(frozen=True, slots=True)
class Graphics:
    """The graphics cards.

    vendors: for each card on the bus, its maker.
    nvidia: the cards that NVIDIA's driver reports.
    driver_complaint: why the driver reports none; "" if it does.
    """

    vendors: tuple[str, ...] = ()
    nvidia: tuple[NvidiaCard, ...] = ()
    driver_complaint: str = ""

    @property
    def has_nvidia(self) -> bool:
        return "NVIDIA" in self.vendors or bool(self.nvidia)


@dataclass(frozen=True, slots=True)
class Terminal:
    """The terminal and the output streams.

    `encoding` is the locale's; l4 itself always writes UTF-8.
    """

    stdout_is_terminal: bool
    stderr_is_terminal: bool
    stdout_encoding: str
    stderr_encoding: str
    encoding: str
    colours: str
    term: str
    columns: int
    rows: int

    @property
    def is_utf8(self) -> bool:
        return self.encoding.lower().replace("-", "") in ("utf8", "")


def system() -> System:
    """Return facts about l4, Python and the operating system."""
    return System(
        l4=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        executable=sys.executable or "",
        prefix=sys.prefix,
        os=_distribution(),
        kernel=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
    )


def _distribution() -> str:
    """Return the operating system's name and version; "" if only the kernel's are known."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def cpu() -> Cpu:
    """Return facts about the processor, and how much of it this process may use."""
    known = cpu_features()
    features = [name for name in _FEATURES if name in known]
    features += sorted(filter(_MORE_FEATURES.fullmatch, known))
    return Cpu(cpu_model(), os.cpu_count(), usable_cores(), num_physical_cores(), tuple(features))


def memory() -> Memory:
    """Return the machine's memory, the free memory, and the container's limit."""
    return Memory(machine_bytes(), free_memory_bytes(), container_limit())


def graphics() -> Graphics:
    """Return the graphics cards, found without loading any driver's library."""
    nvidia, complaint = _ask_driver()
    return Graphics(_cards(), nvidia, complaint)


def _cards() -> tuple[str, ...]:
    """Return the maker of each graphics card in this machine."""
    found = {}
    for vendor in _SYS.glob("class/drm/*/device/vendor"):
        found[vendor.parent.resolve()] = _read(vendor)
    for kind in _SYS.glob("bus/pci/devices/*/class"):
        if _read(kind).startswith(_DISPLAY):
            found[kind.parent.resolve()] = _read(kind.with_name("vendor"))
    return tuple(sorted(_VENDORS[vendor] for vendor in found.values() if vendor in _VENDORS))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _ask_driver() -> tuple[tuple[NvidiaCard, ...], str]:
    """Return the cards that nvidia-smi reports, and why it reports none."""
    program = shutil.which(_SMI)
    if program is None:
        return (), f"there is no {_SMI}"
    try:
        done = subprocess.run(
            [program, *_SMI_QUERY],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=SMI_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (), f"{_SMI} does not answer within {SMI_SECONDS} s"
    except OSError as error:
        return (), f"{_SMI}: {error.strerror}"
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        words = (said or done.stderr.decode("utf-8", "replace")).split()
        return (), " ".join(words) or f"{_SMI} ends with exit code {done.returncode}"
    return nvidia_cards(said), ""


def nvidia_cards(said: str) -> tuple[NvidiaCard, ...]:
    """Parse nvidia-smi's lines, such as "NVIDIA H200, 143771 MiB, 550.54.15". Pure."""
    cards = []
    for line in said.splitlines():
        name, memory, driver = ([each.strip() for each in line.rsplit(",", 2)] + ["", ""])[:3]
        if name:
            amount = memory.partition(" ")[0]
            size = int(amount) << 20 if amount.isdecimal() else None
            cards.append(NvidiaCard(name, size, driver))
    return tuple(cards)


def terminal() -> Terminal:
    """Return facts about the terminal and the output streams."""
    columns, rows = shutil.get_terminal_size()
    return Terminal(
        stdout_is_terminal=_is_terminal(sys.stdout),
        stderr_is_terminal=_is_terminal(sys.stderr),
        stdout_encoding=sys.stdout.encoding or "",
        stderr_encoding=sys.stderr.encoding or "",
        encoding=locale.getpreferredencoding(False),
        colours=_colours(),
        term=os.environ.get("TERM", ""),
        columns=columns,
        rows=rows,
    )


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (OSError, ValueError):
        return False


def _colours() -> str:
    """Return the number of colours that the terminal has, according to the environment."""
    if os.environ.get("NO_COLOR"):
        return "none (NO_COLOR)"
    term = os.environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        return f"none (TERM={term})" if term else "none (no TERM)"
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million"
    return "256" if "256" in term else "16"
