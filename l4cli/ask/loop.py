"""One question after another, in a terminal."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.history import InMemoryHistory

from l4cli import console
from l4cli.errors import EXIT_OK, EXITS_THAT_LEAVE

PROMPT = "? "


def ask_loop(ask: Callable[[str], int]) -> int:
    """Read questions and have `ask` answer each, until Ctrl-D; the exit code.

    `ask` gives the exit code of a signal that ended its answer: Ctrl-C ends an answer only. What is
    typed is not kept: it may tell what the documents say.
    """
    session: PromptSession[str] = PromptSession(history=InMemoryHistory(), enable_suspend=True)
    while True:
        try:
            question = session.prompt(PROMPT).strip()
        except KeyboardInterrupt:
            console.note("(Ctrl-D leaves)")
            continue
        except EOFError:
            return EXIT_OK
        if question and (code := ask(question)) in EXITS_THAT_LEAVE:
            return code
