"""Asks the user whether a tool may run. Only keys typed after the question count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.history import DummyHistory
from prompt_toolkit.input.base import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead

from l4cli import console
from l4cli.chat.tools.rounds import Permission
from l4cli.signals import GivenUpError, giving_up

_QUESTION = "run {call}? [y/N/a] (a: always for {name} in this chat) "
_MEANINGS: dict[str, Permission] = {
    "": "no",
    "n": "no",
    "no": "no",
    "y": "yes",
    "yes": "yes",
    "a": "always",
    "always": "always",
}
_UNCLEAR = "(please answer y, n or a)"


def ask_in_chat(call: str) -> Permission:
    """Ask at a separate prompt until the answer is clear; Ctrl-C and Ctrl-D mean no."""
    if not console.moves_cursor():
        return ask_on_stderr(call)
    asking: PromptSession[str] = PromptSession(history=DummyHistory())
    with _earlier_keys_kept(asking.input):
        try:
            while (permission := permission_of(asking.prompt(_question(call)))) is None:
                console.note(_UNCLEAR)
        except (EOFError, KeyboardInterrupt):
            return "no"
    return permission


def ask_on_stderr(call: str) -> Permission:
    """Ask on stderr, because stdout is for the answer, until the reply is clear.

    The end of stdin means no, and so does Ctrl-C in a conversation.
    """
    with suppress(ImportError):
        import termios

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    while True:
        try:
            with giving_up(after=1):  # before the question is shown: it invites to Ctrl-C
                sys.stderr.write(_question(call))
                sys.stderr.flush()
                typed = sys.stdin.readline()
        except GivenUpError:
            console.note("")
            return "no"
        if permission := permission_of(typed):
            return permission
        console.note(_UNCLEAR)


def permission_of(typed: str) -> Permission | None:
    """Return the permission that was typed, an empty line being no; None if it is unclear."""
    return _MEANINGS.get(typed.strip().lower())


def _question(call: str) -> str:
    return _QUESTION.format(call=call, name=call.partition("(")[0])


@contextmanager
def _earlier_keys_kept(terminal: Input) -> Iterator[None]:
    """Save keys that were typed before the question; the next prompt gets them."""
    with terminal.raw_mode():
        keys = [*get_typeahead(terminal), *terminal.read_keys(), *terminal.flush_keys()]
    try:
        yield
    finally:
        store_typeahead(terminal, keys)
