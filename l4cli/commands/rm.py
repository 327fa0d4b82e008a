"""`l4 rm`: deletes a model from the caches."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.amounts import human_size
from l4cli.commands import completion
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.models.registry import Registry


def rm(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:QUANT]",
            autocompletion=completion.installed,
            help="A model that `l4 models` shows as on disk.",
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout as well.")] = False,
) -> None:
    """Delete a model from the Hub's cache or l4's own cache.

    Files outside these caches are never deleted. A process that has the model
    loaded goes on; the disk space is freed when it ends.
    """
    from l4cli.models.installed import cached_models
    from l4cli.models.locate import file_of
    from l4cli.models.registry import load_registry
    from l4cli.models.removal import choose, processes_using, remove

    registry = load_registry()
    if path := file_of(model, registry):
        raise UsageError(
            f"{model} is {'a file' if str(path) == model else f'the file {path},'} "
            "outside the caches of l4: delete it with rm" + _without_its_name(model, registry)
        )
    found = choose(cached_models(registry), registry.meant(model))
    size = human_size(found.n_bytes)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"{found.full_name}, {size}: no terminal to confirm on; give --yes to remove it"
            )
        if not typer.confirm(f"Remove {found.full_name}, {size}?", err=True):
            console.note("nothing was removed")
            return
    users = processes_using(found)
    freed = remove(found)
    if json:
        console.data_json({"name": found.name, "quant": found.quant, "n_bytes_freed": freed})
    console.note(f"removed {found.full_name}: {human_size(freed)} freed")
    if freed < found.n_bytes:
        kept = human_size(found.n_bytes - freed)
        console.note(f"{kept} stay: other models share them")
    if users:
        numbers = ", ".join(map(str, users))
        console.note(f"process {numbers} still has it loaded: the space is freed when that ends")


def _without_its_name(model: str, registry: Registry) -> str:
    """How to take the user's own name of a file away; "" if it has none."""
    if model in registry.aliases:
        return f"; `l4 models alias --rm {shlex.quote(model)}` removes the name"
    return "; `l4 config edit models` removes the name" if model in registry.models else ""
