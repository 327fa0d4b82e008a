"""Finds the files that the user names as documents: paths, patterns, folders."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli.amounts import counted
from l4cli.documents.text import NO_PATH, read_text
from l4cli.errors import InputError
from l4cli.paths import expanded

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    # .gitignore files with their folders, the outermost first
    _Rules = tuple[tuple[Path, GitIgnoreSpec], ...]

_IGNORED = "file ignored by .gitignore"
_MADE = "folder of packages or caches"
_MADE_NAMES = {"node_modules", "__pycache__", "bower_components"}
_MOST_COUNTED = 10_000  # files in folders that are ignored


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read. `is_named` is False if the user named a folder that contains it."""

    path: Path
    is_named: bool


def find(
    source: str,
    on_error: Callable[[InputError], None],
    *,
    use_gitignore: bool = True,
    left_out: Counter[str] | None = None,
) -> list[Found]:
    """Return the files that a source stands for, sorted by name.

    A folder stands for all files below it, except those that are hidden, links, ignored by a
    .gitignore, or in folders of installed packages and caches. `on_error` is called for each folder
    in it that cannot be read. A pattern (`*`, `?`, `[…]`, `**`) stands for the files that match.

    use_gitignore: whether .gitignore counts: those below the folder, and those above it up to the
        root of its repository.
    left_out: gets the number of files of each kind that were left out, hidden ones aside.

    Raises InputError if there are none.
    """
    path = expanded(source)
    if _is_folder(path):
        walk = _Walk(on_error, use_gitignore, Counter() if left_out is None else left_out)
        files = [Found(file, is_named=False) for file in walk.files(path)]
        missing = "no files in this folder (hidden and ignored ones aside)"
    elif glob.has_magic(source) and not os.path.lexists(path):
        # Path.glob does not support absolute patterns.
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
        files = [Found(match, is_named=True) for match in matches if not _is_folder(match)]
        missing = "no file matches this pattern"
    else:
        files, missing = [Found(path, is_named=True)], ""
    if not files:
        raise InputError(f"{source}: {missing}")
    return files


def _is_folder(path: Path) -> bool:
    """Whether the path is a folder. Errors count as no; reading the path reports them."""
    try:
        return path.is_dir()
    except (OSError, *NO_PATH):
        return False


@dataclass(slots=True)
class _Walk:
    """Finds the files below a folder, and counts in `left_out` those that it passes over."""

    on_error: Callable[[InputError], None]
    use_gitignore: bool
    left_out: Counter[str]

    def files(self, folder: Path) -> Iterator[Path]:
        """Yield the files below a folder that the user named."""
        outer = self._rules_above(folder) if self.use_gitignore else ()
        # A folder is read if the user names it, whatever the .gitignore above it says.
        yield from self._below(folder, () if _is_ignored(folder.resolve(), True, outer) else outer)

    def _rules_above(self, folder: Path) -> _Rules:
        """The .gitignore files above a folder in a git repository, the outermost first."""
        inner = folder.resolve()
        if (inner / ".git").exists():
            return ()
        found: list[tuple[Path, GitIgnoreSpec]] = []
        for above in inner.parents:
            try:
                if (above / ".gitignore").is_file():
                    found.insert(0, (above, _rules(above / ".gitignore")))
                if (above / ".git").exists():
                    return tuple(found)
            except (OSError, InputError):
                return ()
        return ()

    def _below(self, folder: Path, ignoring: _Rules) -> Iterator[Path]:
        """Yield the files below a folder; `ignoring` is what applies in the folders above it."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            if self.use_gitignore and (folder / ".gitignore").is_file():
                rules = folder.resolve(), _rules(folder / ".gitignore")
                ignoring = (*ignoring, rules)
        except OSError as error:
            self.on_error(InputError(f"{folder}: {error.strerror}"))
            return
        except InputError as error:
            self.on_error(error)
            return
        inner = folder.resolve() if ignoring else folder
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith("."):
                continue
            if _is_ignored(inner / entry.name, is_folder, ignoring):
                self.left_out[_IGNORED] += _num_files(entry.path) if is_folder else 1
            elif is_folder and _is_made(Path(entry.path)):
                self.left_out[_MADE] += 1
            elif is_folder:
                yield from self._below(folder / entry.name, ignoring)
            elif entry.is_symlink():
                self.left_out["link"] += 1
            elif entry.is_file(follow_symlinks=False):
                yield folder / entry.name


def _is_made(folder: Path) -> bool:
    """Whether a folder holds what programs have put there: packages, compiled files, a cache."""
    marks = ("pyvenv.cfg", "CACHEDIR.TAG")
    return folder.name in _MADE_NAMES or any(os.path.lexists(folder / mark) for mark in marks)


def _num_files(folder: str) -> int:
    """The number of files below a folder; counting ends at _MOST_COUNTED."""
    count = 0
    for _, _, names in os.walk(folder):
        count += len(names)
        if count >= _MOST_COUNTED:
            break
    return count


def _rules(path: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(read_text(path).splitlines())
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _is_ignored(path: Path, is_folder: bool, ignoring: _Rules) -> bool:
    """Whether the path is ignored, by the innermost .gitignore that has a rule for it."""
    for folder, rules in reversed(ignoring):
        name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
        verdict = rules.check_file(name).include
        if verdict is not None:
            return verdict
    return False


def told(left_out: Counter[str]) -> str:
    """What was left out of a folder, in words; "" for nothing."""
    parts = []
    for kind, count in (+left_out).items():
        noun, _, rest = kind.partition(" ") if kind in (_IGNORED, _MADE) else (kind, "", "")
        more = "over " if kind == _IGNORED and count >= _MOST_COUNTED else ""
        parts.append(more + counted(count, noun) + (f" {rest}" if rest else ""))
    return ", ".join(parts)
