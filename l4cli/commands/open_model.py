"""Loads a model for a command, and shows the progress.

llama.cpp is imported only when the model is found: a name that there is not is told at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

from l4cli import console
from l4cli.commands.find_gguf import find_located
from l4cli.errors import NotFetchedError
from l4cli.signals import GivenUpError, catch_interrupts

if TYPE_CHECKING:
    from l4cli.loading.embedder import Embedder
    from l4cli.loading.embedder_options import EmbedderOptions
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions


def open_model(model: str | ModelFile | None, options: LoadOptions, *, yes: bool = False) -> LLM:
    """Load a model, with a status line on stderr; `find_file` says what `yes` is."""
    try:
        return load_shown(find_file(model, yes=yes), options)
    except GivenUpError as given_up:
        sys.exit(given_up.exit_code)


def load_shown(
    file: ModelFile, options: LoadOptions, *, ends_by: Collection[int] | None = None
) -> LLM:
    """Load a model file, with a status line on stderr. GivenUpError if a signal ends it.

    ends_by: the exit codes of the signals that end it; None for all of them.
    """
    from l4cli.loading.load import load_file

    def load(on_progress: Callable[[float], None]) -> LLM:
        return load_file(file, options, on_progress=on_progress, on_note=console.warn)

    return _load_shown(load, "the model", ends_by)


def open_embedder(model: str, options: EmbedderOptions, *, yes: bool = False) -> Embedder:
    """Load an embedding model, as `open_model` does the others."""

    def load(on_progress: Callable[[float], None]) -> Embedder:
        from l4cli.loading.load_embedder import load_embedder_file

        return load_embedder_file(file, options, on_progress=on_progress, on_note=console.warn)

    try:
        file = find_file(model, yes=yes, embeds=True)
        return _load_shown(load, "the embedding model", None)
    except GivenUpError as given_up:
        sys.exit(given_up.exit_code)


_Loaded = TypeVar("_Loaded", "LLM", "Embedder")


def _load_shown(
    load: Callable[[Callable[[float], None]], _Loaded], what: str, ends_by: Collection[int] | None
) -> _Loaded:
    """Call `load` with what shows the progress. GivenUpError if a signal ends it."""
    with (
        console.status(f"loading {what}") as update,
        catch_interrupts(console.show_stopping) as interrupts,
    ):

        def give_up_if_asked() -> None:
            if interrupts and (ends_by is None or interrupts.exit_code in ends_by):
                raise GivenUpError(interrupts.exit_code)

        def on_progress(done: float) -> None:
            update(f"loading {what}: {done:.0%}")
            give_up_if_asked()

        loaded = load(on_progress)
        try:
            give_up_if_asked()
        except GivenUpError:
            loaded.close()
            raise
        return loaded


def open_vocabulary(
    model: str | ModelFile | None, options: LoadOptions, *, yes: bool = False
) -> LLM:
    """A model without its weights, good only to encode prompts and to see what would fit."""
    file = find_file(model, yes=yes)
    from l4cli.loading.load import load_vocabulary

    return load_vocabulary(file, options, on_note=console.warn)


def find_file(
    model: str | ModelFile | None, *, yes: bool = False, embeds: bool = False
) -> ModelFile:
    """The file of a model.

    The demo model is converted now if that has not been done yet. Another model that is not on this
    machine is fetched if the user agrees.

    yes: the user agrees by --yes.
    embeds: whether the model is to make embeddings.
    """
    if not (model is None or isinstance(model, str)):
        return model
    try:
        return find_here(model, embeds=embeds)
    except NotFetchedError as missing:
        from l4cli.commands.fetch_missing import fetch_missing

        fetch_missing(missing, yes=yes)
        return find_here(model, embeds=embeds)


def find_here(model: str | None, *, embeds: bool = False) -> ModelFile:
    """The file of a model on this machine; ModelNotFoundError, with the way out, if it is not."""
    with console.status("finding the model"):
        located = find_located(model)
        from l4cli.loading.file import ModelFile

        return ModelFile(located, embeds=embeds)
