"""The chat's prompt on a terminal that cannot move its cursor, such as TERM=dumb in an editor.

The terminal shows and edits each line by itself. So there is no bar, no completion and no history.
"""

from __future__ import annotations

from l4cli import console
from l4cli.chat.terminal import editing
from l4cli.chat.terminal.clipboard import copy
from l4cli.chat.terminal.showing import say, width
from l4cli.errors import UsageError

_MORE = " " * len(editing.PROMPT)  # before the further lines of a block


class PlainScreen:
    """The `Ui` of such a terminal, and its prompt."""

    @property
    def width(self) -> int:
        return width()

    def read(self) -> str:
        """Return the next message or command, never empty; EOFError for Ctrl-D."""
        while True:
            try:
                text = console.plain_line(editing.PROMPT)
                while editing.is_open_block(text):
                    text += "\n" + console.plain_line(_MORE)
            except KeyboardInterrupt:
                console.note(f"({editing.HINT})")
                continue
            if message := editing.message_of(text):
                return message

    def say(self, text: str) -> None:
        say(text)

    def ask(self, question: str) -> str:
        try:
            return console.plain_line(question)
        except (EOFError, KeyboardInterrupt):
            return ""

    def edit(self, text: str) -> str | None:
        """Ask for the new text: this terminal cannot let the user change the old one."""
        say(text)
        return self.ask("the new text (Enter alone leaves it as it is): ").rstrip() or None

    def copy(self, text: str) -> str:
        return copy(text, _refuse_codes)


def _refuse_codes(_codes: str) -> None:
    raise UsageError("nothing was copied: this machine has no clipboard, nor has this terminal")
