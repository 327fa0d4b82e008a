"""What commands may ask of whoever shows the chat."""

from __future__ import annotations

from typing import Protocol


class Ui(Protocol):
    """The person at the terminal. `width` is that of the terminal in columns."""

    @property
    def width(self) -> int: ...

    def say(self, text: str) -> None:
        """Show lines of text."""
        ...

    def ask(self, question: str) -> str:
        """One line that the user types in answer; "" for none."""
        ...

    def edit(self, text: str) -> str | None:
        """The text as the user changed it; None if they leave it."""
        ...

    def copy(self, text: str) -> str:
        """Put a text on the clipboard; by which way."""
        ...
