"""Terminal modes: echo off while there is no prompt, and plain output on dumb terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a single answer needs no prompt, and starts an eighth of a second earlier
    from prompt_toolkit.output import Output


def prompt_output() -> Output | None:
    """Return a plain-text output for prompts on a dumb terminal; else None, the default one."""
    from prompt_toolkit.output.plain_text import PlainTextOutput
    from prompt_toolkit.utils import is_dumb_terminal

    return PlainTextOutput(sys.stdout) if is_dumb_terminal() else None


@contextmanager
def typing_held() -> Iterator[None]:
    """Within this context, keys typed while there is no prompt wait, unseen, for the next prompt.

    It must begin before the model loads and end with the chat. Otherwise a key could arrive between
    an answer and the prompt while the terminal echoes and collects lines by itself. The prompt and
    $EDITOR set the modes that they need, and restore them.
    """
    restore = _switch_echo_off()
    try:
        yield
    finally:
        restore()


def _switch_echo_off() -> Callable[[], None]:
    """Stop the terminal from echoing and from collecting lines; return the way to undo it."""
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

    def restore() -> None:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)

    return restore
