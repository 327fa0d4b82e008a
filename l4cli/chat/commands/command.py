"""What a slash command is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from l4cli.chat.commands.ui import Ui
from l4cli.chat.session import ChatSession

Argument = Literal[
    "",
    "path",
    "paths",
    "setting",
    "text",
    "message",
    "session",
    "number",
    "template",
    "attachment",
    "model",
    "command",
]


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command.

    name: the name without the slash.
    usage: the argument as /help shows it; "" for none.
    help: one line for /help.
    run: called with the session, the argument's text and the user interface.
    argument: the kind of argument, which decides what Tab completes. "message" is a message's
        number; "" means that the command takes no argument.
    is_required: whether the argument must be given.
    """

    name: str
    usage: str
    help: str
    run: Callable[[ChatSession, str, Ui], None]
    argument: Argument = ""
    is_required: bool = False

    @property
    def head(self) -> str:
        """The command as a user types it: /alts N."""
        return f"/{self.name} {self.usage}".rstrip()
