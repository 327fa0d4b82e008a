"""`l4 models`: lists the models known by name and those on this machine; names for models."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.amounts import human_size, tokens
from l4cli.commands import completion
from l4cli.commands.group import Command, ListingGroup
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.commands.default_model import DefaultModel
    from l4cli.models.installed import CachedModel
    from l4cli.models.registry import ModelSpec, Registry


class _Group(ListingGroup):
    """`l4 models`. The name of a model in place of a command is told what describes it."""

    def about_word(self, _ctx: Any, word: str, _rest: list[str]) -> str:
        from l4cli.models.locate import names_a_model

        return f"`l4 info {shlex.quote(word)}` describes it" if names_a_model(word) else ""


models = typer.Typer(
    help="List the models that l4 knows by name and those on this machine; give models names.",
    cls=_Group,
)


@models.command("list", cls=Command)
def list_models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """List the models that l4 knows by name, your own names, and what is on this machine.

    Models in the Hub's cache are listed even if another program put them
    there. Last used is when l4 last loaded a model, or else when its file was last
    read or written, as far as the file system records it.
    """
    from l4cli.commands.default_model import default_models
    from l4cli.models.installed import cached_models
    from l4cli.models.registry import load_registry

    registry = load_registry()
    default, *others = default_models(context.find_root().command, registry)
    cached = cached_models(registry)
    if json:
        meant = registry.meant(default.model).partition(":")[0]
        known = [_describe(spec, meant, cached) for spec in registry.models.values()]
        more = {model.name for model in cached} - registry.models.keys()
        console.data_json(known + [_describe_other(name, cached) for name in sorted(more)])
        return
    key = default.key(registry)
    rows = [_row(spec, cached) for spec in registry.models.values()]
    rows += [_alias_row(name, registry, cached) for name in registry.aliases]
    console.table(["NAME", "ON DISK", "CONTEXT", "DESCRIPTION"], _starred(rows, key))
    if cached:
        console.data("")
        rows = [
            [
                model.full_name,
                human_size(model.n_bytes),
                _day(model.last_used),
                "" if model.is_whole else "incomplete",
            ]
            for model in cached
        ]
        console.table(["ON DISK", "SIZE", "LAST USED", ""], rows)
    console.note(_about_default(default, has_line=key in {*registry.models, *registry.aliases}))
    for other in others:
        console.note(f"default of l4 {other.command}: {other.model} (config.toml)")


def _row(spec: ModelSpec, cached: Sequence[CachedModel]) -> list[str]:
    context = tokens(spec.n_ctx_train) if spec.n_ctx_train else "–"
    what = spec.description or (str(spec.path) if spec.path else "")
    return [spec.name, _here(spec, cached), context, what]


def _alias_row(name: str, registry: Registry, cached: Sequence[CachedModel]) -> list[str]:
    """A line for a name of the user's own, with what it stands for."""
    target = registry.aliases[name]
    spec = registry.models.get(registry.meant(name).partition(":")[0])
    if spec is not None:
        _, here, context, _ = _row(spec, cached)
    else:
        is_file = target.endswith(".gguf") and not target.startswith("hf.co/")
        here, context = _is_there(Path(target)) if is_file else "–", "–"
    return [name, here, context, f"your name for {target}"]


def _starred(rows: Sequence[Sequence[str]], name: str) -> list[list[str]]:
    return [[f"{first} *" if first == name else first, *more] for first, *more in rows]


def _about_default(default: DefaultModel, *, has_line: bool) -> str:
    of_variable = default.source == "L4_MODEL"  # which goes before config.toml
    change = "" if of_variable else "; `l4 config set model NAME` changes it"
    if not has_line:
        return f"default: {default.model} ({default.source}){change}"
    if default.source == "models.toml" and ":" not in default.model:
        return f"* is the default, used without --model{change}"
    return f"* is the default, used without --model: {default.model} ({default.source}){change}"


@models.command("alias", cls=Command)
def alias(
    context: typer.Context,
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
        from l4cli.commands.default_model import refuse_removal

        if name is None or target is not None:
            raise UsageError("--rm takes the one name to remove: l4 models alias --rm NAME")
        refuse_removal(name, context.find_root().command)
        console.note(f"{aliases.remove(name)}: {name} is removed")
    elif name is not None and target is not None:
        before = load_registry().aliases.get(name)
        kept = aliases.add(name, target)
        changed = f" (before: {before})" if before not in (None, kept) else ""
        console.note(f"{name} is {kept}{changed}; use it as: -m {name}")
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
        return _is_there(spec.path)
    quants = (model.quant for model in cached if model.name == spec.name and model.is_whole)
    return ", ".join(quants) or (f"no: {spec.size}" if spec.size else "no")


def _is_there(path: Path) -> str:
    return "yes" if path.exists() else "file is missing"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d")
