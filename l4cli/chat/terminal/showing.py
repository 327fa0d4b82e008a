"""Shows lines of the chat, folded between words to the width of the terminal."""

from __future__ import annotations

import textwrap

from l4cli import console
from l4cli.chat.terminal.render import terminal_size
from l4cli.printable import harmless

_LEAST = 20  # columns, even if the terminal says that it has fewer


def width() -> int:
    """Return how many columns a line may have."""
    return max(_LEAST, terminal_size()[0] - 1)


def say(text: str) -> None:
    """Show lines that a command answers with."""
    console.data(_wrapped(text))


def note(text: str) -> None:
    """Show a line that is not part of the conversation, on stderr."""
    console.note(_wrapped(text))


def _wrapped(text: str) -> str:
    """Break lines that are too long for the terminal, between words."""
    columns = width()
    return "\n".join(
        line if len(line) <= columns else textwrap.fill(line, columns, break_on_hyphens=False)
        for line in harmless(text).split("\n")
    )
