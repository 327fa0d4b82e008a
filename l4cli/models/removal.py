"""Removes models from the caches, except files that they share with other models."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from l4cli.errors import ModelNotFoundError, OutputError
from l4cli.models.installed import CachedModel


def choose(models: Sequence[CachedModel], name: str) -> CachedModel:
    """Return the model named NAME or NAME:QUANT.

    Raises ModelNotFoundError if there is none, or more than one.
    """
    import difflib

    wanted = name.upper()
    found = [m for m in models if wanted in (m.full_name.upper(), m.name.upper())]
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelNotFoundError(
            f"{name}: which one? There are {', '.join(model.full_name for model in found)}"
        )
    near = difflib.get_close_matches(name, [model.full_name for model in models], n=1)
    hint = f"did you mean {near[0]}?" if near else "`l4 models` shows what there is"
    raise ModelNotFoundError(f"{name!r} is not in the cache; {hint}")


def remove(model: CachedModel) -> int:
    """Remove a model's files and return the bytes that this frees once no process has them open.

    Files that other snapshots or models use stay, and nothing outside `model.root` is touched.
    Raises OutputError.
    """
    root = model.root.resolve()
    files = [file for file in model.files if file.parent.resolve().is_relative_to(root)]
    shared = _targets(root, set(files))
    blobs = [blob for blob in model.blobs if blob.is_relative_to(root) and blob not in shared]
    try:
        freed = sum(blob.stat().st_size for blob in blobs)
        # Blobs go first. An interruption then leaves broken links, but no blobs without a link,
        # which would take space unseen.
        for path in (*blobs, *files):
            path.unlink(missing_ok=True)
        _prune(root)
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be removed: {error.strerror}") from None
    return freed


def processes_using(model: CachedModel) -> list[int]:
    """Return the ids of processes that have the model mapped, as far as /proc shows them."""
    names = [str(blob) for blob in model.blobs]
    found = []
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text(errors="replace")
        except OSError:  # the process has ended, or is another user's
            continue
        if any(f" {name}\n" in text for name in names):
            found.append(int(maps.parent.name))
    return sorted(found)


def _targets(root: Path, without: set[Path]) -> set[Path]:
    """Return the targets of all links under `root`, ignoring the links in `without`."""
    links = (path for path in root.rglob("*") if path.is_symlink() and path not in without)
    return {link.resolve() for link in links}


def _prune(root: Path) -> None:
    """Remove directories that have become empty; remove `root` if it holds only refs."""
    for folder, _, _ in os.walk(root, topdown=False):
        path = Path(folder)
        if path != root and not any(path.iterdir()):
            path.rmdir()
    left = {path.name for path in root.iterdir()}
    if left <= {"refs", ".no_exist"}:
        shutil.rmtree(root)
