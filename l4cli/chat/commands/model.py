"""The slash command /model: shows the models on this machine, or switches to another one."""

from __future__ import annotations

from l4cli.amounts import human_size, tokens
from l4cli.chat.commands.ui import Ui
from l4cli.chat.models import Models
from l4cli.chat.session import ChatSession
from l4cli.chat.switching import switch
from l4cli.chat.typed_paths import typed_path
from l4cli.errors import EXITS_THAT_LEAVE, UsageError
from l4cli.signals import GivenUpError


def model(session: ChatSession, argument: str, ui: Ui) -> None:
    models = session.models
    if models is None:
        raise UsageError("this chat cannot switch to another model")
    if not argument:
        ui.say("\n".join([_current(session), *_others(session, models)]))
        return
    before = session.llm.name
    try:
        switch(session, models, typed_path(argument))
    except GivenUpError as given_up:
        if given_up.exit_code in EXITS_THAT_LEAVE:
            raise
        ui.say(f"(stopped; the chat keeps {before})")
        return
    ui.say(_current(session))
    if session.has_unused_tools:
        ui.say("(its chat template takes no tools: it is not told of the functions of this chat)")


def _current(session: ChatSession) -> str:
    return f"{session.llm.name} · context of {tokens(session.n_ctx)} tokens"


def _others(session: ChatSession, models: Models) -> list[str]:
    found = list(models.installed())
    width = max((len(one.name) for one in found), default=0)
    lines = [
        f"{'*' if one.name == session.llm.name else ' '} {one.name:<{width}}"
        f"  {'' if one.n_bytes is None else human_size(one.n_bytes)}".rstrip()
        for one in found
    ]
    return [*lines, "/model NAME switches to one of them, or to a GGUF file"]
