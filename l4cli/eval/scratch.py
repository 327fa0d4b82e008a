"""A folder for models that exist only while they are evaluated, in l4's cache folder.

It is removed at the end, also after an error or a signal. What a kill leaves, the next use removes:
each folder has a lock that its process holds.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from l4cli.errors import OutputError
from l4cli.paths import cache_dir

try:
    import fcntl
except ImportError:  # Windows has no flock: what a kill leaves stays there
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder that is removed afterwards. OutputError if none can be made."""
    root = cache_dir() / "eval"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / "lock").open("w") as all_of_them:  # nobody sweeps before the folder is locked
            _lock(all_of_them)
            _sweep(root)
            folder = Path(tempfile.mkdtemp(dir=root))
            lock = (folder / "lock").open("w")
            _lock(lock)
    except OSError as error:
        raise OutputError(
            f"{root}: {error.strerror}: set XDG_CACHE_HOME to a folder that can be written"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _sweep(root: Path) -> None:
    """Remove the folders whose processes have ended."""
    if fcntl is None:
        return
    for folder in root.iterdir():
        if not folder.is_dir():
            continue
        with contextlib.suppress(OSError), (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
