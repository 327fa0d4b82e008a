"""Opens a file of the user's in their editor, and checks it afterwards."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from l4cli import console
from l4cli.errors import InputError, L4Error, OutputError, UsageError


def edit_file(place: Path, beginning: str, check: Callable[[], object]) -> None:
    """Open a file in $EDITOR, and again as long as something is wrong and the user agrees.

    beginning: the text of a file that does not exist yet.
    check: raises L4Error if something is wrong in the file.
    """
    if not place.exists():
        _begin(place, beginning)
    while True:
        _open_editor(place)
        try:
            check()
        except L4Error as error:
            if not sys.stdin.isatty():
                raise
            console.warn(str(error))
            if typer.confirm("Edit it again?", default=True, err=True):
                continue
            raise typer.Exit(error.exit_code) from None
        console.note(f"{place}: fine")
        return


def _begin(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {place}: {error.strerror}") from None


def _open_editor(place: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    editor = editor or next(filter(None, map(shutil.which, ("nano", "vim", "vi"))), None)
    if editor is None:
        raise UsageError(f"no editor: set EDITOR to one, or open {place} yourself")
    try:
        code = subprocess.run([*shlex.split(editor), str(place)], check=False).returncode
    except (OSError, ValueError) as error:
        raise UsageError(f"the editor {editor!r} does not start: {error}; set EDITOR") from None
    if code:
        raise InputError(f"{editor} ended with exit code {code}")
