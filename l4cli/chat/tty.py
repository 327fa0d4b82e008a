"""The terminal: its own hands kept off what is typed, and no codes where it knows none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prompt_toolkit.output import Output
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.utils import is_dumb_terminal


def prompt_output() -> Output | None:
    """What prompts write to: plain text on a dumb terminal; elsewhere None, which is the usual."""
    return PlainTextOutput(sys.stdout) if is_dumb_terminal() else None


@contextmanager
def typing_held() -> Iterator[None]:
    """What is typed while no prompt is there waits, unseen and unchanged, for the next one.

    Held from before the model is loaded to the end of the chat: a key must not find the terminal in
    its own mode between an answer and the prompt. The prompt and $EDITOR set what they need by
    themselves, and set it back.
    """
    restore = _switch_echo_off()
    try:
        yield
    finally:
        restore()


def _switch_echo_off() -> Callable[[], None]:
    """Keep the terminal from echoing and gathering lines; how to undo that."""
    try:
        import termios
    except ImportError:  # Windows
        return lambda: None
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    held = termios.tcgetattr(fd)
    held[0] &= ~termios.ICRNL  # Enter must reach the prompt as Enter, not as Ctrl-J
    held[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(fd, termios.TCSADRAIN, held)
    return lambda: termios.tcsetattr(fd, termios.TCSADRAIN, before)
