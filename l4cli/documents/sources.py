"""What the user names as documents, as files: paths, patterns, folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli.documents.text import read_text
from l4cli.errors import InputError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class Found:
    """A file to read. `is_named` tells that the user named it, rather than a folder it is in."""

    path: Path
    is_named: bool


def find(source: str, on_error: Callable[[InputError], None]) -> list[Found]:
    """The files that a source means, in the order of their names.

    A folder means the files below it, but for those hidden, linked, or ignored by a .gitignore in
    it; a folder in it that cannot be read is told to `on_error`. A pattern (`*`, `?`, `[…]`, `**`)
    means the files it matches. InputError where there are none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = [Found(file, is_named=False) for file in _walk(path, (), on_error)]
        missing = "no files in this folder (hidden and ignored ones aside)"
    elif glob.has_magic(source) and not os.path.lexists(path):
        # Path.glob has no patterns that begin at the root.
        matches = map(Path, sorted(glob.glob(str(path), recursive=True)))  # noqa: PTH207
        files = [Found(match, is_named=True) for match in matches if not match.is_dir()]
        missing = "no file matches this pattern"
    else:
        files, missing = [Found(path, is_named=True)], ""
    if not files:
        raise InputError(f"{source}: {missing}")
    return files


def _walk(
    folder: Path,
    ignoring: tuple[tuple[Path, GitIgnoreSpec], ...],
    on_error: Callable[[InputError], None],
) -> Iterator[Path]:
    """Files below a folder; `ignoring` are the .gitignore files above it, outermost first."""
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
    """What the innermost .gitignore that has a rule for it says."""
    for folder, rules in reversed(ignoring):
        name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
        verdict = rules.check_file(name).include
        if verdict is not None:
            return verdict
    return False
