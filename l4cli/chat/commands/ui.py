"""The user interface as commands see it."""

from __future__ import annotations

from typing import Protocol


class Ui(Protocol):
    """The user at the terminal. `width` is the terminal's width in columns."""

    @property
    def width(self) -> int: ...

    def say(self, text: str) -> None:
        """Show lines of text."""
        ...

    def ask(self, question: str) -> str:
        """Ask a question and return the line that the user types; "" if they type none."""
        ...

    def edit(self, text: str) -> str | None:
        """Let the user change a text and return the new one; None if they cancel."""
        ...

    def copy(self, text: str) -> str:
        """Put a text on the clipboard; return where it went, such as "to the clipboard"."""
        ...
