"""Which build of llama.cpp is installed, found without loading it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from l4cli.native.wheel import NAME, installed_recipe

TESTED_VERSION = "0.3.36"  # of llama-cpp-python: what l4 relies on was read from its llama.cpp


@dataclass(frozen=True, slots=True)
class Build:
    """The shared libraries of an installed llama-cpp-python.

    `key` tells them from others by their sizes and times. `recipe` is what the set-up noted of how
    they were compiled; empty where pip installed them by itself.
    """

    version: str
    folder: Path
    key: str
    recipe: Mapping[str, Any]


@functools.cache
def installed_build() -> Build | None:
    """The build that `import llama_cpp` would load; None where there is none."""
    try:
        spec = importlib.util.find_spec("llama_cpp")  # finds it without running it
        version = metadata.version(NAME)
    except (ImportError, ValueError):  # PackageNotFoundError is an ImportError
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "lib"
    return Build(version, folder, _key(version, folder), installed_recipe())


def _key(version: str, folder: Path) -> str:
    known = [version, str(folder)]
    try:
        for file in sorted(folder.iterdir()):
            stat = file.stat()
            known.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    except OSError:  # said better where it is loaded
        pass
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]
