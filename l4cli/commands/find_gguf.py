"""Finds the GGUF file of a name, for commands that do not load llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from l4cli import console

if TYPE_CHECKING:
    from l4cli.models.locate import Located


def find_gguf(model: str) -> Path:
    """The file of a model; see `find_located`."""
    return find_located(model).path


def find_located(model: str) -> Located:
    """Find a model; the demo model is converted first if that has not been done yet.

    Raises the same errors as `l4 run` if there is none.
    """
    from l4cli.models.locate import locate

    return locate(model, on_convert=note_conversion)


def note_conversion(path: Path) -> None:
    """Write that the demo model is being converted to `path`."""
    console.note(f"converting the demo model to {path} (only this once)")
