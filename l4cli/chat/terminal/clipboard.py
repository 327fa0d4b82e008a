"""The clipboard: this machine's, or through OSC 52 that of the terminal the user sits at."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable

_REMOTE = ("SSH_TTY", "SSH_CONNECTION")
_MAX_OSC52 = 74_994  # bytes that every terminal with OSC 52 takes: xterm's limit before base64


def copy(text: str, write: Callable[[str], object]) -> str:
    """Put a text on the clipboard; by which way.

    `write` sends to the terminal. Over SSH the clipboard of this machine is nobody's, and where no
    clipboard program is installed there is none: the terminal is asked then (OSC 52), which gives
    no answer, so whether it obeyed shows only when pasting.
    """
    if not any(os.environ.get(name) for name in _REMOTE) and _copied_here(text):
        return "to the clipboard"
    data = text.encode("utf-8", "replace")
    write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
    doubt = ", which may be more than it takes" if len(data) > _MAX_OSC52 else ""
    return f"to the terminal's clipboard (OSC 52{doubt})"


def _copied_here(text: str) -> bool:
    import pyperclip

    try:
        pyperclip.copy(text)
    except (pyperclip.PyperclipException, OSError):
        return False
    return True
