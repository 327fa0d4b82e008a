"""A conversation tree as lines of a file, and back. Pure.

A session's file is a log: JSON lines that are only ever added to. The first says what it is; then
comes a record for each message, and one wherever the head moved, or the system message or a setting
changed. A later record of a message replaces the earlier one.

    {"l4_session": 1, "at": "2026-05-01T12:00:00Z", "model": "demo:Q8_0", "weights": "1f…"}
    {"system": "Be brief."}
    {"id": 1, "parent": 0, "role": "user", "content": "What is GGUF?"}
    {"id": 2, "parent": 1, "role": "assistant", "content": "A file format.", "token_ids": [5, 9]}
    {"head": 0}

Reading never fails for what a line holds. A line that is no record is told of; a message that was
in it, but has others below it, leaves an empty one in its place, so that those keep theirs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from l4cli.chat.history.conversation import Message, Role
from l4cli.chat.history.tree import ROOT, Node, Tree
from l4cli.engine.types import FinishReason
from l4cli.prompt.tool_calls import ToolCall

VERSION = 1
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a session's file holds. `end` is where its last whole line ends, in bytes.

    `losses` says, in a line each, what could not be read of it.
    """

    tree: Tree = field(default_factory=Tree)
    num_records: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    weights: str = ""
    end: int = 0
    losses: tuple[str, ...] = ()


def header(model: str, weights: str, at: str) -> Record:
    """The first record of a file, or of what another model adds to it."""
    return {"l4_session": VERSION, "at": at, "model": model, "weights": weights}


def changes(old: Tree, new: Tree) -> list[Record]:
    """The records that make of one tree the other, which was made from it."""
    records: list[Record] = []
    if new.system != old.system:
        records.append({"system": new.system})
    head = old.head
    for id, node in new.nodes.items():
        if old.nodes.get(id) != node:
            records.append(_message_record(node))
            head = id
    if head != new.head:
        records.append({"head": new.head})
    return records


def line(record: Record) -> bytes:
    """A record as it stands in the file."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def replay(data: bytes, weights: str, is_text: Callable[[int], bool]) -> Replayed:
    """The content of a session's file.

    Token ids are kept if they were generated with these `weights`, and all of an answer's are ones
    that text is made of: a file must not bring control tokens in.
    """
    *lines, last = data.split(b"\n")
    reader = _Reader(weights, is_text)
    for number, text in enumerate(lines, 1):
        if not reader.takes(text):
            reader.losses.append(f"line {number} cannot be read")
    if not last or reader.takes(last):
        return reader.replayed(len(data))
    reader.losses.append(f"its last line was cut short: {len(last):,} bytes of it are dropped")
    return reader.replayed(len(data) - len(last))


def first_question(data: bytes) -> str:
    """What the user said first, if a file's beginning tells; "" if not."""
    for text in data.split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            record = json.loads(text)
            if record.get("role") == "user":
                return str(record["content"])
    return ""


class _Reader:
    """Takes records in, one after another."""

    def __init__(self, weights: str, is_text: Callable[[int], bool]) -> None:
        self._ours, self._is_text = weights, is_text
        self._weights = weights
        self._model = ""
        self._nodes: dict[int, Node] = {}
        self._head = ROOT
        self._system: str | None = None
        self._settings: dict[str, float] = {}
        self.num_records = 0
        self.losses: list[str] = []

    def takes(self, text: bytes) -> bool:
        """Whether a line is a record, or blank; if so, it has been taken in."""
        if not text.strip():
            return True
        try:
            self._take(json.loads(text.decode("utf-8", "surrogatepass")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        self.num_records += 1
        return True

    def _take(self, record: Record) -> None:
        if "l4_session" in record:
            self._model, self._weights = str(record["model"]), str(record["weights"])
        elif "role" in record:
            self._place(_node(record, self._token_ids(record)))
        elif "system" in record:
            self._system = _text_or_none(record["system"])
        elif "head" in record:
            self._head = _id(record["head"])
        elif "settings" in record:
            self._settings = {str(k): v + 0 for k, v in record["settings"].items()}
        else:
            raise ValueError("no record of a session's")

    def _token_ids(self, record: Record) -> tuple[int, ...]:
        ids = tuple(_id(token) for token in record.get("token_ids", ()))
        return ids if self._weights == self._ours and all(map(self._is_text, ids)) else ()

    def _place(self, node: Node) -> None:
        if node.parent >= node.id:
            raise ValueError("a message cannot stand below a later one")
        if node.parent != ROOT and node.parent not in self._nodes:
            self._stand_in(node.parent, node.message.role)
        self._nodes[node.id] = node
        self._head = node.id

    def _stand_in(self, id: int, below: Role) -> None:
        """An empty message where one was lost, below the nearest earlier one that it can follow."""
        role: Role = "assistant" if below != "assistant" else "user"
        parent = max(
            (n.id for n in self._nodes.values() if n.id < id and n.message.role != role),
            default=ROOT,
        )
        self._nodes[id] = Node(id, parent, Message(role, ""))
        self.losses.append(f"message {id} is lost; those below it are kept")

    def replayed(self, end: int) -> Replayed:
        nodes = dict(sorted(self._nodes.items()))
        head = self._head if self._head in nodes else max(nodes, default=ROOT)
        if self._head == ROOT:
            head = ROOT
        tree = Tree(nodes, head, self._system)
        return Replayed(
            tree,
            self.num_records,
            self._settings,
            self._model,
            self._weights,
            end,
            tuple(self.losses),
        )


def _message_record(node: Node) -> Record:
    """A node as a record; what is as usual is left out."""
    message = node.message
    record: Record = {
        "id": node.id,
        "parent": node.parent,
        "role": message.role,
        "content": message.content,
    }
    if message.finish_reason != "stop":
        record["finish_reason"] = message.finish_reason
    if message.is_edited:
        record["is_edited"] = True
    if message.tool_calls:
        record["tool_calls"] = [
            {"name": call.name, "arguments": call.arguments} for call in message.tool_calls
        ]
    if message.cuts:
        record["cuts"] = message.cuts
    if message.token_ids:
        record["token_ids"] = message.token_ids
    return record


def _node(record: Record, token_ids: tuple[int, ...]) -> Node:
    """A record as a node; ValueError, KeyError or TypeError if it is none."""
    role, content = record["role"], record["content"]
    reason = record.get("finish_reason", "stop")
    if role not in get_args(Role) or reason not in get_args(FinishReason):
        raise ValueError("unknown role or finish_reason")
    if not isinstance(content, str):
        raise TypeError("no text")
    message = Message(
        role,
        content,
        token_ids,
        reason,
        tuple(_call(call) for call in record.get("tool_calls", ())),
        record.get("is_edited", False) is True,
        _cuts(record, len(content)),
    )
    id = _id(record["id"])
    if id == ROOT:
        raise ValueError("an id that is no message's")
    return Node(id, _id(record["parent"]), message)


def _cuts(record: Record, length: int) -> tuple[int, ...]:
    cuts = tuple(_id(cut) for cut in record.get("cuts", ()))
    if list(cuts) != sorted(set(cuts)) or not all(0 < cut <= length for cut in cuts):
        raise ValueError("cuts outside the text, or out of order")
    return cuts


def _call(value: Any) -> ToolCall:
    if not isinstance(value["name"], str) or not isinstance(value["arguments"], dict):
        raise TypeError("no call")
    return ToolCall(value["name"], value["arguments"])


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("no number")
    return value


def _text_or_none(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError("no text")
    return value
