"""Terminal modes: echo off while there is no prompt, or while an answer is drawn."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from l4cli import console


@contextmanager
def typing_held() -> Iterator[None]:
    """Within this context, keys typed while there is no prompt wait, unseen, for the next prompt.

    It must begin before the model or the tools load and end with the chat. Otherwise a key could
    arrive between an answer and the prompt while the terminal echoes and collects lines by itself.
    The prompt and $EDITOR set the modes that they need, and restore them. A terminal that cannot
    move its cursor goes on to echo and to collect lines: its prompt relies on that.
    """
    if not console.moves_cursor():
        yield
        return
    restore = _switch_echo_off()
    try:
        yield
    finally:
        restore()


@contextmanager
def echo_off() -> Iterator[None]:
    """Within this context, the terminal on stdout does not show what is typed, nor ^C for Ctrl-C.

    It would tear what is drawn. The keys are kept for whoever reads next. In the background
    nothing is changed: a process there that sets the terminal's modes would be stopped.
    """
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    before = None
    with suppress(OSError, ValueError, termios.error):  # no terminal of this process
        fd = sys.stdout.fileno()
        before = termios.tcgetattr(fd) if os.tcgetpgrp(fd) == os.getpgrp() else None
    if before is None:
        yield
        return
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(fd, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


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
    _keep_what_was_typed_before()

    def restore() -> None:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(fd, termios.TCSADRAIN, before)

    return restore


def _keep_what_was_typed_before() -> None:
    """Give the next prompt the keys typed while the terminal collected lines by itself.

    It turned each Enter into a line feed, which the prompt would take for Ctrl-J.
    """
    if not select.select([sys.stdin], [], [], 0)[0]:
        return
    from prompt_toolkit.input import create_input
    from prompt_toolkit.input.typeahead import store_typeahead
    from prompt_toolkit.key_binding import KeyPress
    from prompt_toolkit.keys import Keys

    terminal = create_input()
    keys: list[KeyPress] = []
    while read := terminal.read_keys():
        keys += read
    keys += terminal.flush_keys()
    enter = KeyPress(Keys.ControlM, "\r")
    store_typeahead(terminal, [enter if key.key == Keys.ControlJ else key for key in keys])
