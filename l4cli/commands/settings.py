"""The settings of all commands: their keys in config.toml, their values, where these come from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from l4cli.commands.defaults import (
    DEFAULTS,
    commands_of,
    config_content,
    defaults_in,
    is_shared,
    options_of,
    refusal,
)
from l4cli.errors import ModelNotFoundError, UsageError
from l4cli.near import nearest

if TYPE_CHECKING:
    from l4cli.models.registry import Registry


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: its key, its value (None if it has none), and where the value comes from."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Key:
    """A setting's place in config.toml, and the options that it is the default of.

    table: the names that lead to its table, e.g. ("docs", "add").
    option: the long option without its dashes.
    takers: the commands that have the option, each with its parameter.
    """

    table: tuple[str, ...]
    option: str
    takers: Sequence[tuple[Any, Any]]

    def value_of(self, texts: Sequence[str]) -> Any:
        """Return the value that texts stand for. Raises UsageError if no command takes it."""
        _, first = self.takers[0]
        if len(texts) > 1 and not first.multiple:
            raise UsageError(f"{self.option} takes one value, not {len(texts)}")
        values = [_typed(first, text) for text in texts]
        value = values if len(values) > 1 else values[0]
        refusals = [refusal(command, parameter, value) for command, parameter in self.takers]
        if None not in refusals:
            raise UsageError(f"{self.option} cannot be {' '.join(texts)!r}: {refusals[0]}")
        return value


def find_key(text: str, app: Any) -> Key:
    """Return what a key means: `ctx` is for all commands, `run.ctx` for one.

    Raises UsageError, with near matches, if there is no such setting.
    """
    *above, option = text.removeprefix("--").replace("_", "-").split(".")
    commands = dict(commands_of(app))
    table = tuple(above) or (DEFAULTS,)
    if table == (DEFAULTS,):
        candidates = [command for command in commands.values() if is_shared(command, option)]
    elif table in commands:
        candidates = [commands[table]]
    else:
        names = [DEFAULTS, *(".".join(names) for names in commands)]
        raise UsageError(f"no command {'.'.join(table)}{_near('.'.join(table), names)}")
    takers = [
        (command, parameter)
        for command in candidates
        if (parameter := _options_of(command).get(option)) is not None
    ]
    if not takers:
        known = {name for command in candidates for name in _options_of(command)}
        whose = "no command has an" if table == (DEFAULTS,) else f"l4 {' '.join(table)} has no"
        raise UsageError(f"{whose} option --{option}{_near(option, sorted(known))}")
    return Key(table, option, takers)


def settings_of(key: Key, app: Any) -> list[Setting]:
    """Return the setting of a key; several if commands have different values for its option."""
    if key.table == (DEFAULTS,):
        return [each for each in all_settings(app) if each.key.rpartition(".")[2] == key.option]
    return [
        Setting(f"{'.'.join(names)}.{option}", value, source)
        for names, option, value, source in _each(app)
        if (names, option) == (key.table, key.option)
    ]


def all_settings(app: Any) -> list[Setting]:
    """Return every setting once: first what is set, then what several commands share.

    A value that several commands have for an option stands under the option's name; another
    command's own value stands under COMMAND.OPTION.
    """
    found: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    commands = dict(commands_of(app))
    values: dict[tuple[str, str], Any] = {}
    for names, option, value, source in _each(app):
        shown = (repr(value), source)
        values[shown] = value
        whose = "" if is_shared(commands[names], option) else names[-1]
        found.setdefault((option, whose), {})[".".join(names)] = shown
    settings = []
    for (option, _), by_command in found.items():
        common, count = Counter(by_command.values()).most_common(1)[0]
        if count > 1:
            settings.append(Setting(option, values[common], common[1]))
        for command, shown in by_command.items():
            if count == 1 or shown != common:
                settings.append(Setting(f"{command}.{option}", values[shown], shown[1]))
    return sorted(settings, key=lambda s: (s.source == "default", "." in s.key, s.key))


def _each(app: Any) -> Iterator[tuple[tuple[str, ...], str, Any, str]]:
    """Yield each option of each command: the command's names, the option, its value, the source."""
    from l4cli.models.registry import load_registry

    content, registry = config_content(), load_registry()
    defaults_in(content, app)  # raises InputError if something is wrong
    for names, command in commands_of(app):
        own: Any = content
        for name in names:
            own = own.get(name, {}) if isinstance(own, dict) else {}
        stated = {
            option: _stated(option, command, parameter, own, content.get(DEFAULTS, {}))
            for option, parameter in _options_of(command).items()
        }
        model = stated.get("model", (None, ""))[0]
        for option, (value, source) in stated.items():
            if source == "default" and "model" in stated:
                value, source = _of_models_toml(option, value, model, registry)
            yield names, option, value, source


def _stated(
    option: str, command: Any, parameter: Any, own: Mapping[str, Any], of_all: Mapping[str, Any]
) -> tuple[Any, str]:
    """An option's value, and whether a variable, config.toml or the command itself gives it."""
    names = getattr(parameter, "envvar", None) or ()
    for name in (names,) if isinstance(names, str) else names:
        if value := os.environ.get(name):
            return value, name
    of_all = of_all if is_shared(command, option) else {}
    for table, source in ((own, "config.toml"), (of_all, f"config.toml [{DEFAULTS}]")):
        for key, value in table.items():
            is_taken = table is own or refusal(command, parameter, value) is None
            if options_of(command).get(key.replace("-", "_")) is parameter and is_taken:
                return value, source
    return parameter.default, "default"


def _of_models_toml(
    option: str, default: Any, model: str | None, registry: Registry
) -> tuple[Any, str]:
    """The value that models.toml gives an option, else its default."""
    if option == "model":
        return registry.default, "models.toml"
    try:
        spec = registry.find(registry.meant(model or registry.default).partition(":")[0])
    except ModelNotFoundError:  # a file
        return default, "default"
    value = spec.sampling.get(option.replace("-", "_"))
    return (default, "default") if value is None else (value, f"models.toml, {spec.name}")


def _options_of(command: Any) -> dict[str, Any]:
    """A command's options by their long names, without --help and arguments."""
    return {
        max(parameter.opts, key=len).lstrip("-"): parameter
        for parameter in command.params
        if parameter.opts[0].startswith("-") and "--help" not in parameter.opts
    }


def _typed(parameter: Any, text: str) -> Any:
    """The text as TOML's type for the option: a number, true or false, else a text."""
    if getattr(parameter, "is_flag", False):
        return {"true": True, "false": False}.get(text.lower(), text)
    kind = parameter.type_descriptor.annotation
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError:
        return text


def _near(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    meant = f"; did you mean {' or '.join(near)}?"
    return meant if near else "; `l4 config --all` lists the settings"
