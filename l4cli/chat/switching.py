"""Switches a running chat to another model, and back if it cannot go on with that one.

Two models seldom fit in memory together, so the old one is unloaded before the new one is loaded.
What can be known from the new model's vocabulary is checked before that.
"""

from __future__ import annotations

from l4cli.chat.models import Models
from l4cli.chat.session import ChatSession
from l4cli.errors import EXITS_THAT_LEAVE, L4Error, ModelError, UsageError
from l4cli.loading.file import ModelFile
from l4cli.signals import GivenUpError


def switch(session: ChatSession, models: Models, name: str) -> None:
    """Go on with the model `name`.

    If that is not possible, or the user stops the loading (GivenUpError), the chat keeps its model,
    and the error says so. Only if its model cannot be loaded again is there none, and
    `session.model.is_loaded` is False; so it is after a signal that ends l4.
    """
    old = session.llm
    try:
        file = models.find(name)
        with models.vocabulary(file) as vocabulary:
            is_same = session.has_weights_of(vocabulary)
            if not is_same:
                session.require(vocabulary)
        if not is_same:
            _load(session, models, file)
    except L4Error as error:
        if not session.model.is_loaded:
            raise
        raise ModelError(f"the chat keeps {old.name}: {error}") from error
    if is_same:
        raise UsageError(f"{old.name} is the model of this chat already")


def _load(session: ChatSession, models: Models, file: ModelFile) -> None:
    """Unload the session's model and load another one, or the same again if that fails."""
    old = session.llm
    session.unload()
    try:
        _use(session, models, file)
    except GivenUpError as given_up:
        if given_up.exit_code not in EXITS_THAT_LEAVE:
            _reload(session, models, old.file)
        raise
    except L4Error as error:
        _reload(session, models, old.file, because=error)
        raise


def _use(session: ChatSession, models: Models, file: ModelFile, *, is_needed: bool = False) -> None:
    llm = models.open(file, is_needed=is_needed)
    try:
        session.use(llm)
    except BaseException:
        llm.close()
        raise


def _reload(
    session: ChatSession, models: Models, file: ModelFile | None, because: L4Error | None = None
) -> None:
    """Load the session's own model again; ModelError if it has become impossible."""
    assert file is not None, "a model that was loaded has a file"
    try:
        _use(session, models, file, is_needed=True)
    except L4Error as error:
        first = f"{because}; and " if because else ""
        raise ModelError(f"{first}{file.name} cannot be loaded again: {error}") from error
