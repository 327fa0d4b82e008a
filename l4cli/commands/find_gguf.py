"""Finds the GGUF file of a name, without loading llama.cpp."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli import console
from l4cli.errors import NotFetchedError

if TYPE_CHECKING:
    from l4cli.models.locate import Located


def find_gguf(model: str) -> Path:
    """The file of a model; see `find_located`."""
    return find_located(model).path


def find_located(model: str | None) -> Located:
    """Find a model; the demo model is converted first if that has not been done yet.

    model: its name or file; None is the default model.

    Raises the same errors as `l4 run` if there is none.
    """
    from l4cli.models.locate import locate

    return locate(model, on_convert=note_conversion)


def refuse_unknown(model: str | None) -> None:
    """Raise ModelNotFoundError, with near names, if there is no such model.

    One that is not on this machine passes: whether to fetch it is asked later. The demo model is
    not converted.
    """
    from l4cli.models.locate import check_known
    from l4cli.models.registry import load_registry

    with suppress(NotFetchedError):
        check_known(load_registry().default if model is None else model)


def note_conversion(path: Path) -> None:
    """Write that the demo model is being converted to `path`.

    Raises ModelLoadError if llama.cpp, whose kernels convert it, does not run here.
    """
    from l4cli.native.selftest import require_llama_cpp

    require_llama_cpp()
    console.note(f"converting the demo model to {path} (only this once)")
