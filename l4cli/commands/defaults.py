"""Default values of options: from config.toml and from the L4_* environment variables.

config.toml has one table for each command, whose keys are long options: [run] with max-tokens =
512, [docs.add] with store-limit = "20G". The table [defaults] holds options for all commands that
have them; a command's own table overrides it, variables and options on the command line both.
"""

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from l4cli.errors import InputError, L4Error
from l4cli.near import nearest
from l4cli.paths import config_dir
from l4cli.toml_files import Place, read_toml

DEFAULTS = "defaults"  # the table for all commands
_OF_CHUNKS = ("eval", "experts", "imatrix")  # commands whose --ctx is the length of a text's chunk
_MOST = 2**63  # no option takes a greater number, and a float cannot hold just any
_PLAIN = (  # what typer says of a value, by a library of its own, and how l4 says it
    (r" \(env var: '\w+'\)", ""),
    (r"Input should be a valid number, .*", "it is not a number"),
    (r"Input should be a valid integer, .*", "it is not a whole number"),
    (r"Unable to parse input string as an integer, .*", "it has too many digits"),
    (r"Input should be a valid boolean, .*", "it is not true or false"),
    (r"Input should be greater than or equal to (\S+)", r"it must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"it must be at most \1"),
    (r"Input should be greater than (\S+)", r"it must be above \1"),
    (r"Input should be less than (\S+)", r"it must be below \1"),
    (r"Input should be a finite number", "it must be a finite number"),
)
# They read no config.toml, so that they work where it is wrong.
WITHOUT_CONFIG = ("doctor", "config")


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
    """The defaults that config.toml has for each command of `app`, as click's `default_map`.

    Raises InputError, with the line, for a bad file.
    """
    return defaults_in(config_content(), app)


def config_content() -> dict[str, Any]:
    """What config.toml says; nothing if there is none. Raises InputError."""
    path = config_path()
    try:
        if not path.exists():
            return {}
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return read_toml(path)


def defaults_in(content: Mapping[str, Any], app: Any) -> dict[str, object]:
    """The defaults in the content of config.toml. Raises InputError if something is wrong."""
    top = Place(config_path())
    general = content.get(DEFAULTS, {})
    if not isinstance(general, dict):
        raise InputError(f"{top.at(DEFAULTS)} is {reprlib.repr(general)}, not a table")
    own = {section: values for section, values in content.items() if section != DEFAULTS}
    defaults = _defaults(app, own, top)
    for keys, command in commands_of(app):
        of_all = _for_all(command, general)
        if of_all:
            *groups, name = keys
            table = defaults
            for group in groups:
                table = table.setdefault(group, {})
            table[name] = {**of_all, **table.get(name, {})}
    for key, value in general.items():
        _check_for_all(key, value, app, top.at(DEFAULTS, key))
    return defaults


def commands_of(group: Any, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command that reads config.toml, with the names that lead to it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if name not in WITHOUT_CONFIG:
                yield from commands_of(command, *above, name)
        elif name not in WITHOUT_CONFIG:
            yield (*above, name), command


def options_of(command: Any) -> dict[str, Any]:
    """A command's options by the names that a key of config.toml may have.

    Its arguments are not among them: a default model for all commands is none for `l4 rm MODEL`.
    """
    known = parameters_of(command)
    return {name: each for name, each in known.items() if each.opts[0].startswith("-")}


def parameters_of(command: Any) -> dict[str, Any]:
    """A command's options and arguments by the names that a key of config.toml may have."""
    return {
        option.lstrip("-").replace("-", "_"): parameter
        for parameter in command.params
        for option in (parameter.name, *parameter.opts)
    }


def refusal(command: Any, parameter: Any, value: Any) -> str | None:
    """Why a command would refuse a value of config.toml; None if it would not."""
    items = value if isinstance(value, list) and parameter.multiple else [value]
    if any(not isinstance(item, (str, int, float)) for item in items):
        return "give a text, a number, or true or false"
    if any(isinstance(item, int) and not -_MOST <= item <= _MOST for item in items):
        return "it has too many digits"
    try:
        parameter.process_value(typer.Context(command), _listed(parameter, value))
    except (TyperException, L4Error) as error:
        return plain(str(getattr(error, "message", error)))
    except (TypeError, ValueError, AttributeError):  # a parser of texts that gets a number
        return "it is not a text"
    return None


def plain(complaint: str) -> str:
    """What typer says of a value, in plain words."""
    for theirs, ours in _PLAIN:
        complaint = re.sub(theirs, ours, complaint)
    return complaint


def _listed(parameter: Any, value: Any) -> Any:
    """The value as click takes it: an option that may be repeated takes a list."""
    is_single = getattr(parameter, "multiple", False) and not isinstance(value, list)
    return [value] if is_single else value


def is_shared(command: Any, option: str) -> bool:
    """Whether [defaults] is for this option: not where the name means something else."""
    return not (option == "ctx" and command.name in _OF_CHUNKS)


def _for_all(command: Any, general: Mapping[str, Any]) -> dict[str, Any]:
    """What [defaults] means for one command: the options that it has, if it takes their values.

    `ctx = "auto"` is for `l4 chat` and not for `l4 plan`.
    """
    known = options_of(command)
    found = {}
    for key, value in general.items():
        parameter = known.get(key.replace("-", "_"))
        if parameter is None or not is_shared(command, parameter.name):
            continue
        if refusal(command, parameter, value) is None:
            found[parameter.name] = _listed(parameter, value)
    return found


def _check_for_all(key: str, value: Any, app: Any, where: Place) -> None:
    """Raise InputError unless at least one command has the option and takes the value."""
    name, refusals = key.replace("-", "_"), []
    for _, command in commands_of(app):
        parameter = options_of(command).get(name)
        if parameter is not None and is_shared(command, parameter.name):
            complaint = refusal(command, parameter, value)
            if complaint is None:
                return
            refusals.append(complaint)
    if refusals:
        raise InputError(f"{where} is {reprlib.repr(value)}: {refusals[0]}")
    known = {name for _, command in commands_of(app) for name in options_of(command)}
    raise InputError(
        f"{where.line}: [{DEFAULTS}] has no option {name!r}: no command has it{_near(name, known)}"
    )


def _defaults(group: Any, content: Mapping[str, Any], where: Place) -> dict[str, Any]:
    """The defaults for the commands of a group; a group inside it has nested tables."""
    commands = group.commands
    defaults: dict[str, Any] = {}
    of_list = {}  # `l4 models --json` is `l4 models list --json`
    for section, values in content.items():
        place = where.at(section)
        name = ".".join(place.keys)
        if section in commands and not isinstance(values, dict):
            raise InputError(
                f"{place.line}: {name} is {reprlib.repr(values)}, but it is a command, and its "
                f"options are a table: [{name}]"
            )
        if section not in commands:
            listing = parameters_of(commands["list"]) if "list" in commands else ()
            if section.replace("-", "_") in listing and not isinstance(values, dict):
                of_list[section] = values
                continue
            near = _near(section, [*commands, *([] if where.keys else [DEFAULTS])])
            raise InputError(
                f"{place.line}: {name!r} is not a command{near}; sections: {', '.join(commands)}"
            )
        command = commands[section]
        if hasattr(command, "commands"):
            defaults[section] = _defaults(command, values, place)
        else:
            defaults[section] = _options(command, values, place)
    if of_list:
        of_list = _options(commands["list"], of_list, where)
        defaults["list"] = {**of_list, **defaults.get("list", {})}
    return defaults


def _options(command: Any, values: Mapping[str, Any], where: Place) -> dict[str, Any]:
    """The defaults for the options of one command, whose table is at `where`."""
    known = parameters_of(command)
    name, given = ".".join(where.keys), {}
    for key, value in values.items():
        parameter = known.get(key.replace("-", "_"))
        if parameter is None:
            option = key.replace("-", "_")
            raise InputError(
                f"{where.at(key).line}: [{name}] has no option {option!r}{_near(option, known)}"
            )
        if complaint := refusal(command, parameter, value):
            raise InputError(
                f"{where.at(key).line}: [{name}] {key} is {reprlib.repr(value)}: {complaint}"
            )
        given[parameter.name] = _listed(parameter, value)
    return given


def _near(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near[0].replace('_', '-')}?" if near else ""


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
            refused[name] = plain(str(getattr(error, "message", error)))
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
