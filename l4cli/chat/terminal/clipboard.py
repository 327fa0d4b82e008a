"""Copies to the clipboard of this machine, or to that of the user's terminal (OSC 52)."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

_REMOTE = ("SSH_TTY", "SSH_CONNECTION")
_MAX_OSC52 = 74_994  # bytes before base64: xterm's limit, so every terminal with OSC 52 takes them


def copy(text: str, write: Callable[[str], object]) -> str:
    """Put a text on the clipboard; return where it went, such as "to the clipboard".

    `write` sends text to the terminal. Over SSH the user cannot paste from this machine's
    clipboard, and without a clipboard program the machine has none. In both cases the terminal is
    asked to copy the text (OSC 52). It sends no reply, so only pasting shows whether it did.
    """
    if not any(os.environ.get(name) for name in _REMOTE) and _copied_here(text):
        return "to the clipboard"
    data = text.encode("utf-8", "replace")
    write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
    doubt = "the text may be too long for it" if len(data) > _MAX_OSC52 else "if it allows that"
    return f"to the terminal's clipboard ({doubt})"


def _copied_here(text: str) -> bool:
    import pyperclip

    try:
        pyperclip.copy(text)
    except (pyperclip.PyperclipException, OSError):
        return False
    return True
