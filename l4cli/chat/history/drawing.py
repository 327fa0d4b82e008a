"""Draws a conversation tree as lines of text, and several messages side by side. Pure.

Versions of a message are drawn in the order of their ids. The newest one goes straight down; every
other is drawn before it, with all that follows it, one step to the right. The order is the same
wherever the head is; `*` marks the messages that lead to it:

    * 1 > What is GGUF?
    * 2   A file format for weights.
      ├ 3 > And who made it?
      │ 4   The authors of llama.cpp.
    * 5 > What does it hold?
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from l4cli.chat.history.tree import ROOT, Node, Tree
from l4cli.chat.text import clipped, shortened

_MARKS = {"user": ">", "assistant": " ", "ipython": "="}
_MIN_TEXT = 16  # columns
_MIN_COLUMN = 24  # terminal columns for one text: a narrower text is hard to read
_RULE = " │ "


def draw_tree(tree: Tree, width: int) -> list[str]:
    """Return one line per message, at most `width` columns; `*` marks the path to the head."""
    children = defaultdict(list)
    for node in tree.nodes.values():
        children[node.parent].append(node.id)
    here = {node.id for node in tree.path()}
    digits = len(str(tree.newest))

    lines = []
    # (id, the lead drawn before that message, the lead drawn before the messages below it)
    waiting = [(ROOT, "", "")]
    while waiting:
        id, first, rest = waiting.pop()
        if id != ROOT:
            mark = "* " if id in here else "  "
            lines.append(_line(tree.nodes[id], mark + _tail(first, width // 2), digits, width))
        if below := children[id]:
            *others, newest = below
            waiting.append((newest, rest, rest))
            waiting += [(id, f"{rest}├ ", f"{rest}│ ") for id in reversed(others)]
    return lines


def _line(node: Node, lead: str, digits: int, width: int) -> str:
    message = node.message
    head = f"{lead}{node.id:>{digits}} {_MARKS[message.role]} "
    notes = [name for name, is_so in _notes(node).items() if is_so]
    tail = f" ({', '.join(notes)})" if notes else ""
    called = ", ".join(call.name for call in message.tool_calls)
    text = message.content or (f"calls {called}" if called else "")
    room = max(_MIN_TEXT, width - len(head) - len(tail))
    return clipped(head + shortened(text, room) + tail, width)


def _notes(node: Node) -> dict[str, bool]:
    message = node.message
    return {"edited": message.is_edited, "broken off": message.is_partial}


def _tail(lead: str, width: int) -> str:
    """Cut a lead at its left to `width` columns: deep branches must leave room for the text."""
    return lead if len(lead) <= width else "… " + lead[-(width - 2) :]


def draw_side_by_side(nodes: Sequence[Node], width: int) -> list[str]:
    """Return the lines that show messages side by side, each wrapped in a column of its own.

    Where the columns would be too narrow, the messages come one below the other.
    """
    column = (width - len(_RULE) * (len(nodes) - 1)) // len(nodes)
    if column < _MIN_COLUMN:
        return [
            line
            for node in nodes
            for line in (f"── message {node.id} ──", *_wrapped(node.message.content, width))
        ]
    columns = [[f"message {node.id}", *_wrapped(node.message.content, column)] for node in nodes]
    return [
        _RULE.join(_filled(row, column)).rstrip() for row in zip_longest(*columns, fillvalue="")
    ]


def _wrapped(text: str, width: int) -> list[str]:
    lines = Text(text).wrap(Console(width=width), width, tab_size=4)
    return [line.plain.rstrip() for line in lines]


def _filled(row: Sequence[str], width: int) -> list[str]:
    return [text + " " * (width - cell_len(text)) for text in row]
