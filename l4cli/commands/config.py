"""`l4 config`: shows and changes the settings that are kept in config.toml and models.toml."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands.defaults import DEFAULTS
from l4cli.commands.editing import edit_file
from l4cli.commands.group import Command, ShowingGroup
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from l4cli.commands.settings import Setting


class _Group(ShowingGroup):
    """`l4 config`. A key in place of a command is told how it is shown and set."""

    def about_word(self, ctx: Any, word: str, rest: list[str]) -> str:
        from l4cli.commands.settings import find_key

        key, _, value = word.partition("=")
        try:
            find_key(key, _app(ctx))
        except UsageError:
            return ""
        values = shlex.join([value, *rest] if value else rest)
        if values:
            return f"`l4 config set {key} {values}` sets it"
        return f"`l4 config get {key}` prints it, `l4 config set {key} VALUE` sets it"


config = typer.Typer(
    help="Show and change the settings that l4 keeps: config.toml and models.toml.",
    cls=_Group,
)

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="An option without its dashes, for all commands that have it (ctx), or for one "
        "(run.ctx).",
    ),
]
# Options that are meant for one command line: as a default of all commands they may do harm.
_OF_ONE_USE = ("overwrite", "out", "resume")
_CONFIG = """\
# Defaults for options of l4. An option on the command line or an L4_* variable overrides them.
# `l4 config --all` lists the keys; docs/config.md explains this file.

[defaults]                  # for all commands that have the option
# model = "demo"
# ctx = "32k"
# threads = 8

[run]                       # for one command: l4 run
# max-tokens = 512
"""
_MODELS = """\
# Models that you name, beside those that l4 knows. docs/config.md explains this file.

# default = "demo"          # the model without -m

# [models.mine]             # a model of your own: -m mine
# path = "~/models/mine-Q4_K_M.gguf"
# description = "What it is good for"
# sampling = { temperature = 0.7, top_p = 0.9 }

# [models.scout]            # other values for a model that l4 knows; its other keys stay
# quant = "Q8_0"

[aliases]                   # NAME = MODEL; `l4 models alias NAME MODEL` writes it, too
# small = "~/models/small-Q8_0.gguf"
"""


@config.command("show", cls=Command)
def show(
    context: typer.Context,
    all: Annotated[
        bool, typer.Option("--all", "-a", help="Show the settings that are not set, too.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Write every setting as JSON instead of a table.")
    ] = False,
) -> None:
    """Show what is set, and where it is set; with --all, every setting and its value."""
    from l4cli.commands.settings import all_settings

    settings = all_settings(_app(context))
    if json:
        console.data_json([{"key": s.key, "value": s.value, "source": s.source} for s in settings])
        return
    shown = [each for each in settings if all or each.source != "default"]
    _table(shown)
    if hidden := len(settings) - len(shown):
        console.note(f"{hidden} more have their default values: `l4 config --all` lists them")
    console.note("`l4 config set KEY VALUE` changes one, `l4 COMMAND --help` explains them")


@config.command("get", cls=Command)
def get_value(context: typer.Context, key: Key) -> None:
    """Print the value of one setting; where it is set is told on stderr.

    Where commands have different values, each is listed.
    """
    from l4cli.commands.settings import find_key, settings_of

    found = settings_of(find_key(key, _app(context)), _app(context))
    first = found[0]
    if len(found) > 1:
        _table(found)
    elif first.value is None:
        console.note(f"{first.key} is not set; `l4 COMMAND --help` says what happens then")
    else:
        console.data(_shown(first.value))
        console.note(f"from {first.source}" if first.source != "default" else "the default")


@config.command("path", cls=Command)
def path() -> None:
    """Print the paths of config.toml and models.toml."""
    for name, file in _files().items():
        console.data(str(file))
        if not file.exists():
            console.note(f"{file.name} does not exist yet; `l4 config edit {name}` begins it")


@config.command("edit", cls=Command)
def edit(
    context: typer.Context,
    file: Annotated[
        str,
        typer.Argument(metavar="[config|models]", help="Which file: config.toml or models.toml."),
    ] = "config",
) -> None:
    """Open config.toml or models.toml in $EDITOR, and check it afterwards.

    A file that does not exist yet begins with examples, all in comments.
    """
    name = file.removesuffix(".toml")
    if name not in _files():
        raise UsageError(f"no file {file}: say config or models")
    place = _files()[name]
    beginning = _CONFIG if name == "config" else _MODELS
    edit_file(place, beginning, lambda: _check(name, context))


@config.command("set", cls=Command)
def set_value(
    context: typer.Context,
    key: Key,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VALUE...",
            help="Its value; several for an option that may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Set a default in config.toml; comments in it stay."""
    from l4cli.commands.settings import find_key

    if not values:
        key, sign, value = key.partition("=")
        if not sign:
            find_key(key, _app(context))
            raise UsageError(f"{key} to what? l4 config set {key} VALUE")
        values = [value]
    found = find_key(key, _app(context))
    value = found.value_of(values)

    def change(document: TOMLDocument) -> None:
        table: Any = document
        for name in found.table:
            table = table.setdefault(name, {})
        table[_stated_key(table, found.option) or found.option] = value

    place = _change(change, context)
    console.note(f"{place}: [{'.'.join(found.table)}] {found.option} = {_shown(value)}")
    if found.option == "model":
        _warn_of_unknown_model(str(value), ".".join([*found.table, found.option]))
    if found.table == (DEFAULTS,) and found.option in _OF_ONE_USE:
        names = sorted({command.name for command, _ in found.takers})
        console.warn(
            f"warning: every l4 {', '.join(names)} now has --{found.option} {_shown(value)}; "
            f"`l4 config unset {found.option}` undoes it"
        )


def _warn_of_unknown_model(model: str, key: str) -> None:
    """Say so if there is no such model; it may be a file that is made later."""
    from l4cli.errors import ModelNotFoundError, NotFetchedError
    from l4cli.models.locate import check_known

    try:
        check_known(model)
    except NotFetchedError as error:
        console.note(str(error))
    except ModelNotFoundError as error:
        undo = f"`l4 config unset {key.removeprefix(f'{DEFAULTS}.')}` undoes it"
        console.warn(f"warning: it is set all the same ({undo}), but there is {error}")


@config.command("unset", cls=Command)
def unset(context: typer.Context, key: Key) -> None:
    """Remove a default from config.toml."""
    from l4cli.commands.settings import find_key

    found = find_key(key, _app(context))
    file = _files()["config"]

    def change(document: TOMLDocument) -> None:
        table: Any = document
        for name in found.table:
            table = table.get(name, {})
        stated = _stated_key(table, found.option)
        if stated is None:
            raise UsageError(f"{file}: [{'.'.join(found.table)}] does not set {found.option}")
        del table[stated]

    place = _change(change, context)
    console.note(f"{place}: [{'.'.join(found.table)}] {found.option} is removed")


def _table(settings: Sequence[Setting]) -> None:
    console.table(
        ["SETTING", "VALUE", "FROM"], [[s.key, _shown(s.value), s.source] for s in settings]
    )


def _app(context: typer.Context) -> Any:
    return context.find_root().command


def _files() -> dict[str, Path]:
    from l4cli.commands.defaults import config_path
    from l4cli.models.registry import own_path

    return {"config": config_path(), "models": own_path()}


def _change(change: Any, context: typer.Context) -> Path:
    from l4cli.commands.defaults import defaults_in
    from l4cli.toml_files import change_toml

    place = _files()["config"]
    change_toml(place, change, lambda content: defaults_in(content, _app(context)))
    return place


def _check(name: str, context: typer.Context) -> None:
    """Raise InputError, with the line, if something is wrong in the file."""
    from l4cli.commands.defaults import from_config_file
    from l4cli.models.registry import load_registry

    if name == "config":
        from_config_file(_app(context))
    else:
        load_registry()


def _stated_key(table: Any, option: str) -> str | None:
    """The key in the table that means an option: it may be written with _ for -."""
    return next((key for key in table if key.replace("_", "-") == option), None)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
