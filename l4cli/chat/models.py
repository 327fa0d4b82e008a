"""The models that a chat can switch to, as the chat sees them: it does not know how to load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from l4cli.loading.file import ModelFile
from l4cli.loading.llm import LLM


class Installed(NamedTuple):
    """A model on this machine; `n_bytes` is the size of its files, None if it is not known."""

    name: str
    n_bytes: int | None


class Models(Protocol):
    """The models on this machine, and how this chat loads them."""

    def installed(self) -> Iterable[Installed]:
        """Return the models on this machine, by name."""
        ...

    def find(self, name: str) -> ModelFile:
        """Return the file of a model; ModelNotFoundError, with the way out, if it is not here."""
        ...

    def vocabulary(self, file: ModelFile) -> LLM:
        """Return the model without its weights, to see whether it can go on with a chat."""
        ...

    def open(self, file: ModelFile, *, is_needed: bool = False) -> LLM:
        """Load a model, and show the progress.

        ModelLoadError if it cannot be loaded. Ctrl-C ends the loading with GivenUpError, unless the
        model `is_needed`: SIGTERM and SIGHUP end it always.
        """
        ...
