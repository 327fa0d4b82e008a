"""A session's file as a chat uses it: read once, then added to after every change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from l4cli.chat.history.records import Record, Replayed, changes, header, replay
from l4cli.chat.history.session_file import SessionFile, timestamp
from l4cli.chat.history.tree import Tree
from l4cli.errors import InputError


class SessionLog:
    """Knows what the file holds, so that only what differs is written.

    `model` and `weights` are what the chat runs on: token ids of others are not taken over.
    """

    def __init__(self, file: SessionFile, model: str, weights: str) -> None:
        self.file = file
        self._model, self._weights = model, weights
        self._tree, self._settings = Tree(), dict[str, Any]()
        self._is_introduced = False  # whether the file names this model

    def read(self, is_text: Callable[[int], bool]) -> Replayed:
        """What the file holds; InputError if there is nothing of a session in it."""
        data = self.file.read()
        found = replay(data, self._weights, is_text)
        if data.strip() and not found.num_records:
            raise InputError(
                f"{self.file.path}: no session of l4 chat: none of its lines can be read"
            )
        self.file.keep(found.end)
        self._tree, self._settings = found.tree, dict(found.settings)
        self._is_introduced = found.num_records > 0 and found.weights == self._weights
        return found

    def write(self, tree: Tree, settings: Mapping[str, Any]) -> None:
        """Add what is not in the file yet; it begins with the first message.

        OutputError if it cannot be written: it is then tried again with the next change.
        """
        if not (tree.nodes or self.file.exists):
            return
        records: list[Record] = []
        if not self._is_introduced:
            records.append(header(self._model, self._weights, timestamp()))
            self._is_introduced = True
        records += changes(self._tree, tree)
        if settings != self._settings:
            records.append({"settings": dict(settings)})
        self._tree, self._settings = tree, dict(settings)
        self.file.append(records)
