"""Asks for one question after another in a terminal."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory

from l4cli import console
from l4cli.errors import EXIT_OK, EXITS_THAT_LEAVE

PROMPT = "? "
_LEAVING = ("exit", "quit", "bye", "/exit", "/quit", "/bye", "/q")  # as in a chat
_HELP = "Type a question. Ctrl-C stops an answer; Ctrl-D, exit, quit or bye leaves."


def ask_loop(ask: Callable[[str], int]) -> int:
    """Read questions until Ctrl-D or a word such as /quit; have `ask` answer each.

    Returns the exit code.

    `ask` returns the exit code of the signal that ended its answer, or 0. Ctrl-C ends the answer
    but not the loop. The questions are not saved in a history file, because they may reveal what
    the documents say.
    """
    read = _reader()
    while True:
        try:
            question = read(PROMPT).strip()
        except KeyboardInterrupt:
            console.note("(Ctrl-D leaves)")
            continue
        except EOFError:
            return EXIT_OK
        if question.lower() in _LEAVING:
            return EXIT_OK
        if question.lower() in ("/help", "/?"):
            console.note(_HELP)
            continue
        if question and (code := ask(question)) in EXITS_THAT_LEAVE:
            return code


def _reader() -> Callable[[str], str]:
    """Return a function that shows a prompt and reads a line; it raises what `ask_loop` handles."""
    if not console.moves_cursor():
        return console.plain_line
    session: PromptSession[str] = PromptSession(history=InMemoryHistory(), enable_suspend=True)
    return session.prompt
