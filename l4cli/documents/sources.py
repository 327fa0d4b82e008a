"""Finds the files that the user names as documents: paths, patterns, folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli.documents.text import NO_PATH, read_text
from l4cli.errors import InputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read. `is_named` is False if the user named a folder that contains it."""

    path: Path
    is_named: bool


def find(source: str, on_error: Callable[[InputError], None]) -> list[Found]:
    """Return the files that a source stands for, sorted by name.

    A folder stands for all files below it, except those that are hidden, links, or ignored by a
    .gitignore in it. `on_error` is called for each folder in it that cannot be read. A pattern
    (`*`, `?`, `[…]`, `**`) stands for the files that match. Raises InputError if there are none.
    """
    path = expanded(source)
    if _is_folder(path):
        files = [Found(file, is_named=False) for file in _walk(path, (), on_error)]
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


def expanded(source: str) -> Path:
    """Return the path with `~` expanded if that is possible."""
    try:
        return Path(source).expanduser()
    except NO_PATH:
        return Path(source)


def _is_folder(path: Path) -> bool:
    """Whether the path is a folder. Errors count as no; reading the path reports them."""
    try:
        return path.is_dir()
    except (OSError, *NO_PATH):
        return False


def _walk(
    folder: Path,
    ignoring: tuple[tuple[Path, GitIgnoreSpec], ...],
    on_error: Callable[[InputError], None],
) -> Iterator[Path]:
    """Yield the files below a folder.

    ignoring: the .gitignore files above it, outermost first, each with its folder.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        if (folder / ".gitignore").is_file():
            ignoring = (*ignoring, (folder, _rules(folder / ".gitignore")))
    except OSError as error:
        on_error(InputError(f"{folder}: {error.strerror}"))
        return
    except InputError as error:
        on_error(error)
        return
    for entry in entries:
        path = folder / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.startswith(".") or _is_ignored(path, is_folder, ignoring):
            continue
        if is_folder:
            yield from _walk(path, ignoring, on_error)
        elif entry.is_file(follow_symlinks=False):
            yield path


def _rules(path: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines(read_text(path).splitlines())
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _is_ignored(
    path: Path, is_folder: bool, ignoring: tuple[tuple[Path, GitIgnoreSpec], ...]
) -> bool:
    """Whether the path is ignored, by the innermost .gitignore that has a rule for it."""
    for folder, rules in reversed(ignoring):
        name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
        verdict = rules.check_file(name).include
        if verdict is not None:
            return verdict
    return False
