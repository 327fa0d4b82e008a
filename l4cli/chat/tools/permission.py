"""Asks the user whether a tool may run. Only keys typed after the question count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.history import DummyHistory
from prompt_toolkit.input.base import Input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead

from l4cli.chat.tools.rounds import Permission
from l4cli.chat.tty import prompt_output

_QUESTION = "run {}? [y/N/a(lways)] "


def ask_in_chat(call: str) -> Permission:
    """Ask at a separate prompt; Ctrl-C and Ctrl-D mean no."""
    asking: PromptSession[str] = PromptSession(history=DummyHistory(), output=prompt_output())
    with _earlier_keys_kept(asking.input):
        try:
            return permission_of(asking.prompt(_QUESTION.format(call)))
        except (EOFError, KeyboardInterrupt):
            return "no"


def ask_on_stderr(call: str) -> Permission:
    """Ask on stderr, because stdout is for the answer; the end of stdin means no."""
    with suppress(ImportError):
        import termios

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    sys.stderr.write(_QUESTION.format(call))
    sys.stderr.flush()
    return permission_of(sys.stdin.readline())


def permission_of(typed: str) -> Permission:
    """Return the permission that was typed: anything but y(es) and a(lways) means no."""
    word = typed.strip().lower()
    if word in ("y", "yes"):
        return "yes"
    return "always" if word in ("a", "always") else "no"


@contextmanager
def _earlier_keys_kept(terminal: Input) -> Iterator[None]:
    """Save keys that were typed before the question; the next prompt gets them."""
    with terminal.raw_mode():
        keys = [*get_typeahead(terminal), *terminal.read_keys(), *terminal.flush_keys()]
    try:
        yield
    finally:
        store_typeahead(terminal, keys)
