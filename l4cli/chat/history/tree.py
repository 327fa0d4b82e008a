"""A conversation as a tree: every version of every message stays. Pure.

Each message has an id, given in order and never given again, and hangs below the one it follows.
The head is the message the conversation ends with; what is said next goes below it. Undo, edit and
branch move the head and delete nothing. Every change makes a new tree, so a turn that fails leaves
the old one as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from l4cli.chat.history.conversation import Conversation, Message
from l4cli.errors import UsageError

ROOT = 0  # the id above every first message


@dataclass(frozen=True, slots=True)
class Node:
    """A message in its place; `parent` is the id of the one before it, or ROOT."""

    id: int
    parent: int
    message: Message


@dataclass(frozen=True, slots=True)
class Tree:
    """All that was said, and where the conversation stands. `system` holds for every branch."""

    nodes: Mapping[int, Node] = field(default_factory=dict)
    head: int = ROOT
    system: str | None = None

    @property
    def conversation(self) -> Conversation:
        """What leads to the head."""
        return Conversation(tuple(node.message for node in self.path()), self.system)

    @property
    def newest(self) -> int:
        """The id given last; ROOT in an empty tree."""
        return max(self.nodes, default=ROOT)

    def node(self, id: int) -> Node:
        """The message of that id; UsageError if there is none."""
        if id not in self.nodes:
            ids = f"1 to {self.newest}" if self.nodes else "none yet"
            raise UsageError(f"there is no message {id} (there are {ids}); /tree shows them")
        return self.nodes[id]

    def path(self, id: int | None = None) -> list[Node]:
        """The messages that lead to `id`, itself the last; to the head by default."""
        path = []
        at = self.head if id is None else id
        while at != ROOT:
            path.append(self.nodes[at])
            at = self.nodes[at].parent
        return path[::-1]

    def children(self, id: int) -> list[int]:
        """What was said in answer to a message, oldest first."""
        return [node.id for node in self.nodes.values() if node.parent == id]

    def end_of_branch(self, id: int) -> int:
        """The newest message below `id`, or itself: nothing hangs below that one."""
        self.node(id)
        below = {id}
        for node in self.nodes.values():  # in the order of ids, so parents come first
            if node.parent in below:
                below.add(node.id)
        return max(below)

    def said(self, *messages: Message) -> Tree:
        """With messages put below the head, each below the one before it; the last is the head."""
        nodes, head = dict(self.nodes), self.head
        for message in messages:
            id = max(nodes, default=ROOT) + 1
            nodes[id] = Node(id, head, message)
            head = id
        return replace(self, nodes=nodes, head=head)

    def replaced(self, id: int, message: Message) -> Tree:
        """With another message in the place of `id`."""
        return replace(self, nodes={**self.nodes, id: replace(self.node(id), message=message)})

    def at(self, id: int) -> Tree:
        """With the head at `id`, or at ROOT."""
        return replace(self, head=id if id == ROOT else self.node(id).id)

    def at_question(self) -> Tree:
        """Back to what the last answer answers; UsageError if nothing was asked."""
        if self.head == ROOT:
            raise UsageError("nothing has been asked yet")
        node = self.nodes[self.head]
        return self.at(node.parent) if node.message.role == "assistant" else self

    def last_question(self) -> Node:
        """The last message of the user's that leads to the head; UsageError if there is none."""
        for node in reversed(self.path()):
            if node.message.role == "user":
                return node
        raise UsageError("nothing has been asked yet")

    def with_system(self, text: str | None) -> Tree:
        return replace(self, system=text or None)
