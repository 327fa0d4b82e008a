"""Turns a conversation tree into the records of a session file, and back. Pure.

A session file is a log: JSON lines that are only ever appended. The first record is a header. Each
message has a record; other records tell that the head moved, that the system message or the
settings changed, or that a question was taken back because its answer never began. A later record
of a message replaces an earlier one.

    {"l4_session": 1, "at": "2026-05-01T12:00:00Z", "model": "demo:Q8_0", "weights": "1f…"}
    {"system": "Be brief."}
    {"id": 1, "parent": 0, "role": "user", "content": "What is GGUF?"}
    {"id": 2, "parent": 1, "role": "assistant", "content": "A file format.", "token_ids": [5, 9]}
    {"head": 0}
    {"dropped": 3}

No content of a line makes reading fail. A line that is not a record is reported as a loss. If a
lost message has messages below it, an empty message takes its place, so that they keep theirs.
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
    """The content of a session file.

    num_records: how many lines were records.
    settings: the sampling settings.
    model, weights: from the last header: the model's name and the fingerprint of its weights.
    end: where the last whole line ends, in bytes from the beginning of the file.
    losses: one line for each thing that could not be read.
    """

    tree: Tree = field(default_factory=Tree)
    num_records: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    weights: str = ""
    end: int = 0
    losses: tuple[str, ...] = ()


def header(model: str, weights: str, at: str) -> Record:
    """Return a header: the first record of a file, and the first one that another model adds."""
    return {"l4_session": VERSION, "at": at, "model": model, "weights": weights}


def changes(old: Tree, new: Tree) -> list[Record]:
    """Return the records that turn `old` into `new`.

    `new` must have been made from `old`, or from what `old` was made from.
    """
    records: list[Record] = [
        {"dropped": id} for id in sorted(old.nodes, reverse=True) if id not in new.nodes
    ]
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
    """Return a record as a line of the file."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def replay(data: bytes, weights: str, is_text: Callable[[int], bool]) -> Replayed:
    """Read the content of a session file.

    An answer keeps its token ids only if they were generated with these `weights` and `is_text` is
    true for all of them: a file must not bring control tokens into the prompt.
    """
    *lines, last = data.split(b"\n")
    reader = _Reader(weights, is_text)
    for number, text in enumerate(lines, 1):
        if not reader.takes(number, text):
            reader.losses.append(f"line {number} cannot be read")
    if not last or reader.takes(len(lines) + 1, last):
        return reader.replayed(len(data))
    reader.losses.append(f"its last line was cut short: {len(last):,} bytes of it are dropped")
    return reader.replayed(len(data) - len(last))


def first_question(data: bytes) -> str:
    """Return the user's first message, if `data`, a file's beginning, has it; else ""."""
    for text in data.split(b"\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
            record = json.loads(text)
            if record.get("role") == "user":
                return str(record["content"])
    return ""


class _Reader:
    """Builds the tree from records, one after another."""

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

    def takes(self, number: int, text: bytes) -> bool:
        """Take in one line; False if it is neither a record nor blank."""
        if not text.strip():
            return True
        try:
            record = json.loads(text.decode("utf-8", "surrogatepass"))
            mended = _mended(record)
            self._take(record if mended is None else mended)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        self.num_records += 1
        if mended is not None:
            self.losses.append(f"line {number} has half a character, which is read as \ufffd")
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
        elif "dropped" in record:
            self._drop(_id(record["dropped"]))
        elif "settings" in record:
            self._settings = {str(k): v + 0 for k, v in record["settings"].items()}
        else:
            raise ValueError("not a record of a session")

    def _token_ids(self, record: Record) -> tuple[int, ...]:
        ids = tuple(_id(token) for token in record.get("token_ids", ()))
        return ids if self._weights == self._ours and all(map(self._is_text, ids)) else ()

    def _place(self, node: Node) -> None:
        if node.parent >= node.id:
            raise ValueError("a message cannot be below a later one")
        if node.parent != ROOT and node.parent not in self._nodes:
            self._stand_in(node.parent, node.message.role)
        self._nodes[node.id] = node
        self._head = node.id

    def _drop(self, id: int) -> None:
        if any(node.parent == id for node in self._nodes.values()):
            raise ValueError("a message with others below it cannot be dropped")
        dropped = self._nodes.pop(id, None)
        if dropped and self._head == id:
            self._head = dropped.parent

    def _stand_in(self, id: int, below: Role) -> None:
        """Put an empty message in place of a lost one, below the newest one that it can follow."""
        role: Role = "assistant" if below != "assistant" else "user"
        parent = max(
            (n.id for n in self._nodes.values() if n.id < id and n.message.role != role),
            default=ROOT,
        )
        self._nodes[id] = Node(id, parent, Message(role, ""))
        self.losses.append(f"message {id} is lost; those below it are kept")

    def replayed(self, end: int) -> Replayed:
        """Return the result of all records so far; `end` as in `Replayed`."""
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


def _mended(record: Any) -> Any:
    """The record without halves of characters (lone surrogates), which no model can read.

    None if it has none, as all that l4 writes.
    """
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return None


def _message_record(node: Node) -> Record:
    """Return a node as a record; fields with their default values are left out."""
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
    if message.num_cached is not None:
        record["num_cached"] = message.num_cached
    return record


def _node(record: Record, token_ids: tuple[int, ...]) -> Node:
    """Return a record as a node; ValueError, KeyError or TypeError if it is not a message."""
    role, content = record["role"], record["content"]
    reason = record.get("finish_reason", "stop")
    if role not in get_args(Role) or reason not in get_args(FinishReason):
        raise ValueError("unknown role or finish_reason")
    if not isinstance(content, str):
        raise TypeError("not a text")
    message = Message(
        role,
        content,
        token_ids,
        reason,
        tuple(_call(call) for call in record.get("tool_calls", ())),
        record.get("is_edited", False) is True,
        _cuts(record, len(content)),
        _id(record["num_cached"]) if "num_cached" in record else None,
    )
    id = _id(record["id"])
    if id == ROOT:
        raise ValueError("no message has this id")
    return Node(id, _id(record["parent"]), message)


def _cuts(record: Record, length: int) -> tuple[int, ...]:
    cuts = tuple(_id(cut) for cut in record.get("cuts", ()))
    if list(cuts) != sorted(set(cuts)) or not all(0 < cut <= length for cut in cuts):
        raise ValueError("cuts outside the text, or out of order")
    return cuts


def _call(value: Any) -> ToolCall:
    if not isinstance(value["name"], str) or not isinstance(value["arguments"], dict):
        raise TypeError("not a call")
    return ToolCall(value["name"], value["arguments"])


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("not a number")
    return value


def _text_or_none(value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError("not a text")
    return value
