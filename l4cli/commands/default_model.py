"""The model that commands use without --model, and the place that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from l4cli.commands.defaults import DEFAULTS, commands_of, config_content, options_of
from l4cli.errors import UsageError
from l4cli.models.registry import Registry, load_registry, own_path
from l4cli.toml_files import read_toml

_VARIABLE = "L4_MODEL"


@dataclass(frozen=True, slots=True)
class DefaultModel:
    """A default model and where it is named.

    model: as it is written there.
    source: L4_MODEL, config.toml or models.toml.
    command: the one command that it is for; "" for all.
    """

    model: str
    source: str
    command: str = ""

    @property
    def way_out(self) -> str:
        """What to do so that this is no longer the default model."""
        key = f"{self.command}.model" if self.command else "model"
        return {
            _VARIABLE: f"`unset {_VARIABLE}`",
            "config.toml": f"`l4 config unset {key}`",
        }.get(self.source, "change default in models.toml: `l4 config edit models`")

    def key(self, registry: Registry) -> str:
        """The name of the model or alias, without a quantization; a file's path as it is."""
        name = self.model.partition(":")[0]
        return name if name in {*registry.models, *registry.aliases} else self.model


def default_models(app: Any, registry: Registry) -> list[DefaultModel]:
    """The default model of all commands, then those that config.toml has for one command."""
    if model := os.environ.get(_VARIABLE):
        return [DefaultModel(model, _VARIABLE)]
    content = config_content()
    of_all = content.get(DEFAULTS, {})
    stated = _model_in(dict(commands_of(app))[("chat",)], of_all)
    general = DefaultModel(stated, "config.toml") if stated else None
    own = [
        DefaultModel(model, "config.toml", ".".join(names))
        for names, command in commands_of(app)
        if (model := _model_in(command, _table(content, names)))
    ]
    return [general or DefaultModel(registry.default, "models.toml"), *own]


def refuse_removal(name: str, app: Any) -> None:
    """Raise UsageError if something still uses this name of a model."""
    registry = load_registry()
    for default in (*default_models(app, registry), *_own_default()):
        if default.model.partition(":")[0] == name:
            of = f"the default of l4 {default.command}" if default.command else "your default model"
            raise UsageError(f"{name} is {of} ({default.source}): first {default.way_out}")
    for other, target in registry.aliases.items():
        if target.partition(":")[0] == name:
            raise UsageError(f"{other} stands for {name}: first `l4 models alias --rm {other}`")


def _own_default() -> Iterator[DefaultModel]:
    """The default in the user's models.toml, even where another place overrides it."""
    path = own_path()
    if path.exists() and (model := read_toml(path).get("default")):
        yield DefaultModel(model, "models.toml")


def _table(content: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    table: Any = content
    for name in names:
        table = table.get(name, {}) if isinstance(table, dict) else {}
    return table if isinstance(table, dict) else {}


def _model_in(command: Any, table: Mapping[str, Any]) -> str | None:
    """The value of a command's option --model in a table of config.toml; None if it has none."""
    known = options_of(command)
    for key, value in table.items():
        parameter = known.get(key.replace("-", "_"))
        if parameter is not None and parameter.name == "model" and isinstance(value, str):
            return value
    return None
