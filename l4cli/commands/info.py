"""`l4 info`: what a model is, in one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l4cli.commands import info_show
from l4cli.errors import EXIT_FAILED


def info(
    model: Annotated[
        str,
        typer.Argument(
            metavar="FILE|DIR|NAME",
            help="A GGUF (of a split one, the first file), a checkpoint, or a name from "
            "`l4 models`.",
        ),
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """Describe a model from its headers: size, shape, types, tokenizer, what is wrong with it.

    Exit code 1 if it could not be run, or would run wrong.
    """
    import convert

    description = convert.describe(_find(model))
    if json:
        info_show.as_json(description, tensors=tensors)
    else:
        info_show.screen(description, tensors=tensors)
    if any(finding.level == "error" for finding in description.findings):
        raise typer.Exit(EXIT_FAILED)


def _find(model: str) -> Path:
    """The file or directory that is meant; one that is named wrongly is told as for `l4 run`."""
    from l4cli.commands.open_model import note_conversion
    from l4cli.models.locate import is_hub_id, locate, locate_checkpoint

    if is_hub_id(model) and not Path(model).exists():
        return locate_checkpoint(model).path
    return locate(model, on_convert=note_conversion).path
