"""Reads stored sessions without a model: for lists, searches and exports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from l4cli.chat.history.records import Replayed, replay
from l4cli.chat.history.session_file import require_session, session_names
from l4cli.chat.history.tree import Node
from l4cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Hit:
    """A message of a session that has the words that were searched for."""

    session: str
    node: Node
    at: int


def read_session(name: str) -> Replayed:
    """Read a session, also one that is open in a chat. Answers lose their token ids.

    Raises UsageError if there is no such session, InputError if its file cannot be read.
    """
    path = require_session(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return replay(data, "", lambda _id: False)


def search(text: str) -> Iterator[Hit]:
    """Yield the messages of all branches that have `text`, whatever its case; newest session first.

    The `at` of a hit is the character at which the text first stands.
    """
    wanted = text.casefold()
    for name in session_names():
        for node in read_session(name).tree.nodes.values():
            at = node.message.content.casefold().find(wanted)
            if at >= 0:
                yield Hit(name, node, min(at, len(node.message.content)))
