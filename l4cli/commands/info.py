"""`l4 info`: describes a model in one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l4cli.commands import completion, info_show
from l4cli.commands.find_gguf import find_gguf
from l4cli.errors import EXIT_FAILED


def info(
    model: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.models,
            metavar="FILE|DIR|NAME",
            help="GGUF file (the first one, if it is split) or a folder with one, checkpoint "
            "directory, or a name from `l4 models`.",
        ),
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="Also list every tensor.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")] = False,
) -> None:
    """Describe a model: size, shape, types, tokenizer, and what is wrong with it.

    Only headers are read. What `l4 eval` measured is shown, too. Exit code 1
    if the model could not run or would run wrong.
    """
    import convert
    from l4cli.eval.keeping import recall

    description = convert.describe(_find(model))
    kept = [] if description.is_checkpoint else recall(description.path)
    if json:
        info_show.as_json(description, kept, tensors=tensors)
    else:
        info_show.screen(description, kept, tensors=tensors)
    if any(finding.level == "error" for finding in description.findings):
        raise typer.Exit(EXIT_FAILED)


def _find(model: str) -> Path:
    """The model's file or directory. Raises the same errors as `l4 run` if there is none."""
    from l4cli.models.locate import is_hub_id, locate_checkpoint

    if is_hub_id(model) and not Path(model).exists():
        return locate_checkpoint(model).path
    return find_gguf(model)
