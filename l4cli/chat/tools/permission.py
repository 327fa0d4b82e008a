"""Asking the person whether a tool may run. Only what is typed after the question answers it."""

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
    """Ask at a prompt of its own; Ctrl-C and Ctrl-D are a no."""
    asking: PromptSession[str] = PromptSession(history=DummyHistory(), output=prompt_output())
    with _typed_before_kept(asking.input):
        try:
            return permission_of(asking.prompt(_QUESTION.format(call)))
        except (EOFError, KeyboardInterrupt):
            return "no"


def ask_on_stderr(call: str) -> Permission:
    """Ask on stderr, for stdout is the answer's; nothing more to read is a no."""
    with suppress(ImportError):
        import termios

        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    sys.stderr.write(_QUESTION.format(call))
    sys.stderr.flush()
    return permission_of(sys.stdin.readline())


def permission_of(typed: str) -> Permission:
    """What was meant: anything but y(es) and a(lways) is a no."""
    word = typed.strip().lower()
    if word in ("y", "yes"):
        return "yes"
    return "always" if word in ("a", "always") else "no"


@contextmanager
def _typed_before_kept(terminal: Input) -> Iterator[None]:
    """What was typed before goes to the next prompt instead of to this question."""
    with terminal.raw_mode():
        keys = [*get_typeahead(terminal), *terminal.read_keys(), *terminal.flush_keys()]
    try:
        yield
    finally:
        store_typeahead(terminal, keys)
