"""Which build of llama.cpp is installed, found without loading it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

NAME = "llama-cpp-python"
TESTED_VERSION = "0.3.36"  # of llama-cpp-python; l4 was written against its llama.cpp
STAMP = "llama-cpp-build.json"  # in the environment's folder: how its llama.cpp was built


@dataclass(frozen=True, slots=True)
class Build:
    """The shared libraries of an installed llama-cpp-python.

    version: of llama-cpp-python. folder: where its libraries are.
    key: identifies the libraries, by their sizes and modification times.
    recipe: how the set-up compiled them (`installed_recipe`); empty if the caller did not read it.
    """

    version: str
    folder: Path
    key: str
    recipe: Mapping[str, Any] = field(default_factory=dict)


@functools.cache
def installed_build() -> Build | None:
    """Return the build that `import llama_cpp` would load; None if there is none."""
    try:
        spec = importlib.util.find_spec("llama_cpp")  # finds it without running it
        version = metadata.version(NAME)
    except (ImportError, ValueError):  # PackageNotFoundError is an ImportError
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "lib"
    return Build(version, folder, _key(version, folder))


def _key(version: str, folder: Path) -> str:
    known = [version, str(folder)]
    try:
        for file in sorted(folder.iterdir()):
            stat = file.stat()
            known.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    except OSError:  # loading the library reports this better
        pass
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:16]


def installed_recipe() -> Mapping[str, Any]:
    """Return how the set-up built this environment's llama-cpp-python, as it recorded it.

    The record has the fields of a `wheel.Recipe`, its key, and the verdict on the compiler. It is
    empty if the set-up did not install the build, or if another build was installed later.
    """
    stamp = Path(sys.prefix) / STAMP
    try:
        recipe = json.loads(stamp.read_text("utf-8"))
        records = [file.locate() for file in metadata.files(NAME) or () if file.name == "RECORD"]
        installed = max((Path(record).stat().st_mtime for record in records), default=0.0)
        if installed > stamp.stat().st_mtime or metadata.version(NAME) != recipe["version"]:
            return {}
    except (OSError, ValueError, KeyError, TypeError, metadata.PackageNotFoundError):
        return {}
    return recipe if isinstance(recipe, dict) else {}
