"""A conversation as a tree that keeps every version of every message. Pure.

Each message has an id and a parent, the message before it. Ids are given in order and never reused.
The head is the message that the conversation ends with; the next message goes below it. Undo, edit
and branch move the head and delete nothing. Every change makes a new tree, so a turn that fails
leaves the old tree as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from l4cli.chat.history.conversation import NO_QUESTION, Conversation, Message
from l4cli.errors import UsageError

ROOT = 0  # the id above every first message


@dataclass(frozen=True, slots=True)
class Node:
    """A message in the tree; `parent` is the id of the message before it, or ROOT."""

    id: int
    parent: int
    message: Message


@dataclass(frozen=True, slots=True)
class Tree:
    """All messages, and the head. The system message is the same for every branch."""

    nodes: Mapping[int, Node] = field(default_factory=dict)
    head: int = ROOT
    system: str | None = None

    @property
    def conversation(self) -> Conversation:
        """The messages that lead to the head, as a conversation."""
        return Conversation(tuple(node.message for node in self.path()), self.system)

    @property
    def newest(self) -> int:
        """The highest id; ROOT in an empty tree."""
        return max(self.nodes, default=ROOT)

    def node(self, id: int) -> Node:
        """Return the node with this id; UsageError if there is none."""
        if id not in self.nodes:
            ids = f"1 to {self.newest}" if self.nodes else "none yet"
            raise UsageError(f"there is no message {id} (there are {ids}); /tree shows them")
        return self.nodes[id]

    def path(self, id: int | None = None) -> list[Node]:
        """Return the nodes that lead to `id`, that node the last; to the head by default."""
        path = []
        at = self.head if id is None else id
        while at != ROOT:
            path.append(self.nodes[at])
            at = self.nodes[at].parent
        return path[::-1]

    def children(self, id: int) -> list[int]:
        """Return the ids of the messages directly below `id`, oldest first."""
        return [node.id for node in self.nodes.values() if node.parent == id]

    def same_version(self, message: Message) -> int | None:
        """Return the id of the same message directly below the head; None if there is none.

        How much of an answer's prompt was in the KV cache makes no difference.
        """
        for id in self.children(self.head):
            if replace(self.nodes[id].message, num_cached=message.num_cached) == message:
                return id
        return None

    def end_of_branch(self, id: int) -> int:
        """Return the highest id below `id`, or `id` itself if there is none below it."""
        self.node(id)
        below = {id}
        for node in self.nodes.values():  # in the order of ids, so parents come first
            if node.parent in below:
                below.add(node.id)
        return max(below)

    def said(self, *messages: Message) -> Tree:
        """Return the tree with messages added below the head, each below the one before it.

        The last one is the new head.
        """
        nodes, head = dict(self.nodes), self.head
        for message in messages:
            id = max(nodes, default=ROOT) + 1
            nodes[id] = Node(id, head, message)
            head = id
        return replace(self, nodes=nodes, head=head)

    def replaced(self, id: int, message: Message) -> Tree:
        """Return the tree with another message at `id`."""
        return replace(self, nodes={**self.nodes, id: replace(self.node(id), message=message)})

    def at(self, id: int) -> Tree:
        """Return the tree with the head at `id`, or at ROOT."""
        return replace(self, head=id if id == ROOT else self.node(id).id)

    def at_question(self) -> Tree:
        """Return the tree with the head at the question, or tool result, that was answered last.

        If the head is not an answer, it stays. UsageError if nothing was asked.
        """
        if self.head == ROOT:
            raise UsageError(NO_QUESTION)
        node = self.nodes[self.head]
        return self.at(node.parent) if node.message.role == "assistant" else self

    def without_open_question(self) -> Tree:
        """Return the tree with the head above the question that it ends with, if it does.

        That question has no answer. It stays in the tree, as an earlier version of the next one.
        """
        node = self.nodes.get(self.head)
        return self.at(node.parent) if node and node.message.role == "user" else self

    def last_question(self) -> Node:
        """Return the user's last message on the way to the head; UsageError if there is none."""
        for node in reversed(self.path()):
            if node.message.role == "user":
                return node
        raise UsageError(NO_QUESTION)

    def without_token_ids(self) -> Tree:
        """Return the tree as another model sees it: the token ids of its answers mean nothing."""
        nodes = {
            id: replace(node, message=replace(node.message, token_ids=()))
            for id, node in self.nodes.items()
        }
        return replace(self, nodes=nodes)

    def with_system(self, text: str | None) -> Tree:
        """Return the tree with another system message; an empty one is none."""
        return replace(self, system=text or None)
