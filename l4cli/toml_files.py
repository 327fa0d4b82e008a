"""Reads the TOML files that users write, and changes them; comments and order stay as they are."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert import reading
from convert.errors import ConvertError
from l4cli.errors import InputError, OutputError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content. Raises InputError, with the line, if it cannot be parsed."""
    return _parse(path, read_toml_text(path))


def change_toml(
    path: Path, change: Callable[[TOMLDocument], None], check: Callable[[dict[str, Any]], object]
) -> None:
    """Let `change` alter a TOML file, or make one; the file is replaced at once or not at all.

    check: gets the new content before it is written, and raises L4Error if something is wrong.

    InputError for a file that cannot be parsed, OutputError for one that cannot be written.
    """
    import tomlkit

    path = path.resolve()  # a link stays a link
    text = read_toml_text(path) if path.exists() else ""
    _parse(path, text)
    document = tomlkit.parse(text)
    change(document)
    check(document.unwrap())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".{path.name}")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(tomlkit.dumps(document))
        if path.exists():
            part.chmod(path.stat().st_mode & 0o777)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A key in a TOML file, for error messages.

    keys: the way to it: ("run", "ctx") is `ctx` in the table [run], or `run.ctx`.
    """

    file: Path
    keys: tuple[str, ...] = ()

    def at(self, *keys: str) -> Place:
        """The place of a key inside this one."""
        return Place(self.file, (*self.keys, *keys))

    @property
    def line(self) -> str:
        """The file and, if the key is found in it, the number of its line."""
        number = _line_of(self.file, self.keys) if self.keys and self.file.exists() else None
        return f"{self.file}: line {number}" if number else str(self.file)

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.line, ".".join(self.keys)]))


def _line_of(path: Path, keys: tuple[str, ...]) -> int | None:
    """Return the number of the line where a key is stated; None if it is not found."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(read_toml_text(path).splitlines(), 1):
        if header := re.match(r"\s*\[\[?([^\]]+)\]", line):
            stated = table = _keys(header[1])
        elif key := re.match(r"\s*([^=#]+?)\s*=", line):
            stated = (*table, *_keys(key[1]))
        else:
            continue
        if stated[: len(keys)] == keys:
            return number
    return None


def _keys(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip().strip("\"'") for key in dotted.split("."))


def read_toml_text(path: Path) -> str:
    """Return a TOML file's text as it is. Raises InputError if it cannot be read."""
    try:
        return reading.read_text(path)
    except ConvertError as error:
        raise InputError(str(error)) from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(text)
        return content
    except RecursionError:
        raise InputError(f"{path}: nested too deep to read") from None
    except (ValueError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}") from error
