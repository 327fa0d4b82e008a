"""Collects facts about the user's folders: their places, their sizes, whether they are writable.

No files are left in the folders, and no folder is created.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from l4cli.models.installed import hub_cache
from l4cli.paths import cache_dir, config_dir, state_dir

SECONDS = 2.0  # time limit for counting the sizes of all folders together
_LOOK_AT_CLOCK = 200  # entries between two looks at the clock
_SOME_BYTES = 4096  # written to test a folder; on a full disk an empty file could still be created
CONFIGURATION, CACHE, STATE, HUB = "configuration", "cache", "state", "hub"


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of files. If not `is_whole`, the time was too short to count all of them."""

    n_bytes: int = 0
    is_whole: bool = True

    def __add__(self, other: Size) -> Size:
        return Size(self.n_bytes + other.n_bytes, self.is_whole and other.is_whole)


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder within the cache, such as the one with stored prefixes."""

    name: str
    size: Size


@dataclass(frozen=True, slots=True)
class Folder:
    """One of the user's folders.

    path: None if it cannot be determined; `complaint` says why.
    size: of all files in it.
    entries: the folders in it, for the cache only.
    complaint: why it cannot be written or created; "" if it can.
    free: bytes free on its disk; None if unknown.
    """

    name: str
    path: Path | None
    exists: bool = False
    size: Size = Size()
    entries: tuple[Entry, ...] = ()
    complaint: str = ""
    free: int | None = None

    @property
    def is_writable(self) -> bool:
        return not self.complaint


def folders(seconds: float = SECONDS) -> tuple[Folder, ...]:
    """Return l4's folders and the Hub's cache. Counting their sizes takes at most `seconds`."""
    deadline = time.monotonic() + seconds
    places: Sequence[tuple[str, Callable[[], Path]]] = (
        (CONFIGURATION, config_dir),
        (STATE, state_dir),
        (CACHE, cache_dir),
        (HUB, hub_cache),
    )
    return tuple(_folder(name, place, deadline) for name, place in places)


def _folder(name: str, place: Callable[[], Path], deadline: float) -> Folder:
    try:
        path = place()
    except RuntimeError as error:  # there is no home folder
        return Folder(name, None, complaint=str(error).rstrip("."))
    size, entries = _sizes(path, deadline)
    return Folder(
        name,
        path,
        exists=os.path.lexists(path),
        size=size,
        entries=entries if name == CACHE else (),
        complaint=_why_not_writable(path),
        free=_free(path),
    )


def _sizes(path: Path, deadline: float) -> tuple[Size, tuple[Entry, ...]]:
    """Return the size of a folder, and of each folder directly in it. Links are not followed."""
    own: Size = Size()
    entries: list[Entry] = []
    try:
        with os.scandir(path) as found:
            for each in sorted(found, key=lambda each: each.name):
                if each.is_dir(follow_symlinks=False):
                    entries.append(Entry(each.name, _size(each.path, deadline)))
                else:
                    own += Size(each.stat(follow_symlinks=False).st_size)
    except OSError:  # `complaint` says why the folder cannot be read
        pass
    return sum((entry.size for entry in entries), own), tuple(entries)


def _size(folder: str, deadline: float) -> Size:
    n_bytes, n_entries, left = 0, 0, [folder]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    n_entries += 1
                    if n_entries % _LOOK_AT_CLOCK == 0 and time.monotonic() > deadline:
                        return Size(n_bytes, is_whole=False)
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        n_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError:  # another process has removed it, or it is not readable for this user
            continue
    return Size(n_bytes)


def _why_not_writable(path: Path) -> str:
    """Return why no file can be written there, or why the folder cannot be created; else ""."""
    place = _nearest(path)
    try:
        if not place.is_dir():
            return f"{place} is not a folder"
        if place != path:
            return "" if os.access(place, os.W_OK | os.X_OK) else f"{place}: permission denied"
        with tempfile.TemporaryFile(dir=place, prefix="l4-doctor-") as file:
            file.write(bytes(_SOME_BYTES))
            file.flush()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def _free(path: Path) -> int | None:
    try:
        return shutil.disk_usage(_nearest(path)).free
    except OSError:
        return None


def _nearest(path: Path) -> Path:
    """Return the path itself if it exists, else its nearest parent folder that does."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), Path("/"))
