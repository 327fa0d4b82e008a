"""Default values of options: from config.toml and from the L4_* environment variables."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from l4cli.errors import InputError, L4Error
from l4cli.models.registry import read_toml
from l4cli.paths import config_dir


def config_path() -> Path:
    """The path of config.toml, existing or not. Raises InputError if there is no home folder."""
    try:
        return config_dir() / "config.toml"
    except RuntimeError as error:
        raise InputError(
            f"{str(error).rstrip('.').lower()}: set HOME, or XDG_CONFIG_HOME, XDG_CACHE_HOME and "
            "XDG_STATE_HOME"
        ) from None


def from_config_file(app: Any) -> dict[str, object]:
    """The defaults that config.toml has for each command of `app`.

    Options and L4_* variables override them. The file has one table for each command, whose keys
    are long options: [run] with max-tokens = 512, [docs.add] with store-limit = "20G". Raises
    InputError for a bad file.
    """
    path = config_path()
    try:
        if not path.exists():
            return {}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    content = read_toml(path)
    return _defaults(app, content, path)


def _defaults(group: Any, content: Mapping[str, Any], path: Path, name: str = "") -> dict[str, Any]:
    """The defaults for the commands of a group; a group inside it has nested tables.

    name: the path of the group's table with a dot at the end; "" for the whole file.
    """
    commands = group.commands
    defaults: dict[str, Any] = {}
    for section, values in content.items():
        if section in commands and not isinstance(values, dict):
            raise InputError(
                f"{path}: {name + section} is {reprlib.repr(values)}, but it is a command, and its "
                f"options are a table: [{name + section}]"
            )
        if section not in commands:
            raise InputError(
                f"{path}: {name + section!r} is not a command; sections: {', '.join(commands)}"
            )
        command = commands[section]
        if hasattr(command, "commands"):
            defaults[section] = _defaults(command, values, path, f"{name}{section}.")
        else:
            defaults[section] = _options(command, values, path, name + section)
    return defaults


def _options(command: Any, values: Mapping[str, Any], path: Path, name: str) -> dict[str, Any]:
    """The defaults for the options of one command; `name` is its table's, for error messages."""
    known = {
        option.lstrip("-").replace("-", "_"): parameter
        for parameter in command.params
        for option in (parameter.name, *parameter.opts)
    }
    given = {}
    for key, value in values.items():
        parameter = known.get(key.replace("-", "_"))
        if parameter is None:
            raise InputError(f"{path}: [{name}] has no option {key.replace('-', '_')!r}")
        # An option that may be repeated takes a list. A single value need not be written as one.
        is_single = getattr(parameter, "multiple", False) and not isinstance(value, list)
        items = value if getattr(parameter, "multiple", False) and not is_single else [value]
        if any(not isinstance(item, (str, int, float)) for item in items):
            raise InputError(
                f"{path}: [{name}] {key} is {reprlib.repr(value)}: give a text, a number, or true "
                "or false"
            )
        given[parameter.name] = [value] if is_single else value
    return given


def variables(app: Any) -> frozenset[str]:
    """The names of the environment variables that options of the commands of `app` read."""
    return frozenset(name for name, _, _ in _variables(app))


def refused_variables(app: Any) -> dict[str, str]:
    """Environment variables with a value that a command refuses, each with the error message."""
    refused: dict[str, str] = {}
    for name, option, command in _variables(app):
        value = os.environ.get(name)
        if not value or name in refused:
            continue
        try:
            option.process_value(typer.Context(command), value)
        except (TyperException, L4Error) as error:
            refused[name] = str(getattr(error, "message", error))
    return refused


def _variables(app: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields each environment variable with an option that reads it, and that option's command."""
    for command in app.commands.values():
        if hasattr(command, "commands"):
            yield from _variables(command)
        for option in command.params:
            names = getattr(option, "envvar", None) or ()
            for name in (names,) if isinstance(names, str) else names:
                yield name, option, command
