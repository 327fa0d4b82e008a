"""Reads lines from a terminal that cannot move its cursor: it shows by itself what is typed."""

from __future__ import annotations

import sys

from l4cli.console.streams import data
from l4cli.signals import GivenUpError, giving_up


def plain_line(prompt: str) -> str:
    """Write a prompt, and return the line that the user types behind it.

    Raises EOFError for Ctrl-D, and KeyboardInterrupt for Ctrl-C.
    """
    try:
        with giving_up(after=1):  # before the prompt is shown: it invites to Ctrl-C
            data(prompt, end="")
            line = sys.stdin.buffer.readline().decode("utf-8", "replace")
    except (GivenUpError, KeyboardInterrupt):
        data("")
        raise KeyboardInterrupt from None
    if not line:
        data("")
        raise EOFError
    return line.rstrip("\r\n")
