"""The session file of a running chat: read once, then appended to after every change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from l4cli.chat.history.records import Record, Replayed, changes, header, replay
from l4cli.chat.history.session_file import SessionFile, timestamp
from l4cli.chat.history.tree import Tree
from l4cli.errors import InputError


class SessionLog:
    """Keeps the state that the file holds, and appends only the differences.

    `model` is the name of the chat's model, `weights` the fingerprint of its weights. Token ids
    that other weights generated are not read.
    """

    def __init__(self, file: SessionFile, model: str, weights: str) -> None:
        self.file = file
        self._model, self._weights = model, weights
        self._tree, self._settings = Tree(), dict[str, Any]()
        self._is_introduced = False  # whether the file's last header names this model
        self._is_new = not file.exists  # whether the file has no answer yet

    def read(self, is_text: Callable[[int], bool]) -> Replayed:
        """Read the file; InputError if it has content, but no record of a session.

        `is_text(token)` tells whether an answer may contain that token.
        """
        data = self.file.read()
        found = replay(data, self._weights, is_text)
        if data.strip() and not found.num_records:
            raise InputError(
                f"{self.file.path}: not a session of l4 chat: none of its lines can be read"
            )
        self.file.keep(found.end)
        self._tree, self._settings = found.tree, dict(found.settings)
        self._is_introduced = found.num_records > 0 and found.weights == self._weights
        return found

    def go_on_with(self, model: str, weights: str, tree: Tree) -> None:
        """Take another model: the next record names it, and `tree` is what the file has for it."""
        self._model, self._weights, self._tree = model, weights, tree
        self._is_introduced = False

    def write(self, tree: Tree, settings: Mapping[str, Any]) -> None:
        """Append what is not in the file yet. The first message creates the file.

        OutputError if the file cannot be written; the next call then tries again.
        """
        if not (tree.nodes or self.file.exists):
            return
        if not tree.nodes and self._is_new:  # the first question was taken back
            self.file.discard()
            self._tree, self._is_introduced = Tree(), False
            return
        records: list[Record] = []
        if not self._is_introduced:
            records.append(header(self._model, self._weights, timestamp()))
            self._is_introduced = True
        records += changes(self._tree, tree)
        if settings != self._settings:
            records.append({"settings": dict(settings)})
        self._tree, self._settings = tree, dict(settings)
        self._is_new &= len(tree.nodes) <= 1
        self.file.append(records)
