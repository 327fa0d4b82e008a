"""`l4 models`: lists the models known by name and those on this machine; names for models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.amounts import human_size
from l4cli.commands import completion
from l4cli.commands.group import Command, ListingGroup
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.models.installed import CachedModel
    from l4cli.models.registry import ModelSpec

models = typer.Typer(
    help="List the models that l4 knows by name and those on this machine; give models names.",
    cls=ListingGroup,
)


@models.command("list", cls=Command)
def list_models(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """List the models that l4 knows by name, and those on this machine.

    Models in the Hub's cache are listed even if another program put them
    there. Last used is when a file was last read or written, as far as the file
    system records it.
    """
    from l4cli.models.installed import cached_models
    from l4cli.models.registry import load_registry

    registry = load_registry()
    default = registry.meant(registry.default).partition(":")[0]
    cached = cached_models(registry)
    if json:
        known = [_describe(spec, default, cached) for spec in registry.models.values()]
        others = {model.name for model in cached} - registry.models.keys()
        console.data_json(known + [_describe_other(name, cached) for name in sorted(others)])
        return
    console.table(
        ["NAME", "ON DISK", "CONTEXT", "DESCRIPTION"],
        [
            [
                f"{spec.name}{' *' if spec.name == default else ''}",
                _here(spec, cached),
                f"{spec.n_ctx_train:,}" if spec.n_ctx_train else "–",
                spec.description,
            ]
            for spec in registry.models.values()
        ],
    )
    if cached:
        console.data("")
        console.table(
            ["ON DISK", "SIZE", "LAST USED", ""],
            [
                [
                    model.full_name,
                    human_size(model.n_bytes),
                    _day(model.last_used),
                    "" if model.is_whole else "incomplete",
                ]
                for model in cached
            ],
        )
    if registry.aliases:
        console.data("")
        _show_aliases(registry.aliases)
    console.note("* is the default, used without --model")


@models.command("alias", cls=Command)
def alias(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The name to give, or to remove.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            autocompletion=completion.models,
            help="A GGUF file, a name from `l4 models` or hf.co/ORG/NAME, the last two with :QUANT "
            "if you like.",
        ),
    ] = None,
    rm: Annotated[bool, typer.Option("--rm", help="Remove the name; the model stays.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Give a model a name of your own, or list these names.

    The names are kept in your models.toml; `l4 config path` shows where.

        l4 models alias small ~/models/small-Q8_0.gguf
        l4 chat -m small
    """
    from l4cli.models import aliases
    from l4cli.models.registry import load_registry

    if rm:
        if name is None or target is not None:
            raise UsageError("--rm takes the one name to remove: l4 models alias --rm NAME")
        console.note(f"{aliases.remove(name)}: {name} is removed")
    elif name is not None and target is not None:
        kept = aliases.add(name, target)
        console.note(f"{name} is {kept}; use it as: -m {name}")
    elif name is not None:
        raise UsageError(f"{name} stands for which model? l4 models alias {name} MODEL")
    elif json:
        console.data_json(dict(load_registry().aliases))
    elif found := load_registry().aliases:
        _show_aliases(found)
    else:
        console.note("no names of your own yet: l4 models alias NAME MODEL gives one")


def _show_aliases(aliases: Mapping[str, str]) -> None:
    console.table(["YOUR NAME", "MODEL"], [[name, model] for name, model in aliases.items()])


def _describe(spec: ModelSpec, default: str, cached: Sequence[CachedModel]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "default": spec.name == default,
        "description": spec.description,
        "licence": spec.licence,
        "size": spec.size,
        "released": spec.released,
        "n_ctx_train": spec.n_ctx_train,
        "source": str(spec.path) if spec.path else spec.gguf.repo if spec.gguf else spec.checkpoint,
        "present": _present(spec.name, cached),
    }


def _describe_other(name: str, cached: Sequence[CachedModel]) -> dict[str, Any]:
    """A model that models.toml does not name, with the same JSON keys as `_describe`."""
    return {
        "name": name,
        "default": False,
        "description": "",
        "licence": "",
        "size": "",
        "released": True,
        "n_ctx_train": None,
        "source": name.removeprefix("hf.co/"),
        "present": _present(name, cached),
    }


def _present(name: str, cached: Sequence[CachedModel]) -> list[dict[str, Any]]:
    """The quantizations of a model on this machine."""
    return [
        {
            "quant": model.quant,
            "is_whole": model.is_whole,
            "n_bytes": model.n_bytes,
            "last_used": datetime.fromtimestamp(model.last_used, timezone.utc).isoformat(
                timespec="seconds"
            ),
            "files": [str(file) for file in model.files],
        }
        for model in cached
        if model.name == name
    ]


def _here(spec: ModelSpec, cached: Sequence[CachedModel]) -> str:
    if not spec.released:
        return "never released"
    if spec.checkpoint == "demo":
        return "bundled"
    if spec.path is not None:
        return "yes" if spec.path.exists() else "file is missing"
    quants = (model.quant for model in cached if model.name == spec.name and model.is_whole)
    return ", ".join(quants) or (f"no: {spec.size}" if spec.size else "no")


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")
