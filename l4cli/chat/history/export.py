"""Saves one branch as JSON lines, one message per line, and loads such a file; or as Markdown.

`/save PATH` and `/load PATH` use it. Other programs can read the files: the messages have the form
that chat templates take. Sessions, which have all branches, are in `session_file.py`.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, get_args

from l4cli.chat.history.conversation import Conversation, Message
from l4cli.chat.history.markdown import as_markdown
from l4cli.engine.types import FinishReason
from l4cli.errors import InputError, OutputError, UsageError
from l4cli.prompt.tool_calls import ToolCall

_WAYS_OUT = "choose another name, or add --overwrite to replace it"
_ENDINGS = ("", ".jsonl", ".json")  # of JSON lines


def save(conversation: Conversation, path: Path) -> None:
    """Write a conversation to `path` (see `write`).

    OutputError if that fails, or if `path` exists and is not a saved conversation; it is then left
    as it is.
    """
    if path.exists():
        _refuse_foreign(path)
    write(conversation, path)


def write(conversation: Conversation, path: Path) -> None:
    """Write Markdown to a path that ends in .md, else JSON lines. Only the owner can read the file.

    It is written under a temporary name in the same folder and then replaces `path`. OutputError if
    that fails. UsageError for an ending that promises another format.
    """
    ending = path.suffix.lower()
    if ending == ".md":
        content = as_markdown(conversation)
    elif ending not in _ENDINGS:
        raise UsageError(
            f"{path}: a conversation cannot be written as {ending}: .md is Markdown, .jsonl (or "
            ".json) is JSON lines, which `l4 chat` can load"
        )
    else:
        content = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in _records(conversation))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    part = Path(name)  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> Conversation:
    """Read a saved conversation; InputError, with the line's number, if a line is wrong."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a saved conversation (not UTF-8 text)") from error
    conversation = Conversation()
    for number, line in enumerate(lines, 1):
        if line.strip():
            conversation = _extended(conversation, line, f"{path}, line {number}")
    if not conversation.messages and conversation.system is None:
        raise InputError(f"{path}: it has no messages")
    return conversation


def _records(conversation: Conversation) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = list(conversation.as_dicts())
    head = len(records) - len(conversation.messages)
    for record, message in zip(records[head:], conversation.messages, strict=True):
        record["role"] = message.role  # our name: for templates, "ipython" is "tool"
        if message.is_partial:
            record["finish_reason"] = message.finish_reason
    return records


def _extended(conversation: Conversation, line: str, where: str) -> Conversation:
    """Return the conversation with the message of one more line."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON") from error
    if not isinstance(record, dict) or not isinstance(record.get("content"), str):
        raise InputError(f"{where}: not a message: it needs a role, and a text as its content")
    role, content = record.get("role"), record["content"]
    reason = record.get("finish_reason", "stop")
    if role == "system" and conversation == Conversation():
        return Conversation(system=content or None)
    if role in ("user", "ipython"):
        return conversation.extended(Message(role, content))
    if role == "assistant" and reason in get_args(FinishReason):
        calls = _calls(record.get("tool_calls", []), where)
        return conversation.extended(
            Message("assistant", content, finish_reason=reason, tool_calls=calls)
        )
    if role == "assistant":
        raise InputError(f"{where}: unknown finish_reason {reason!r}")
    raise InputError(
        f"{where}: role {role!r} is not allowed here: only user, assistant and ipython are, and "
        "system as the first message"
    )


def _calls(values: Any, where: str) -> tuple[ToolCall, ...]:
    try:
        functions = [value["function"] for value in values]
        return tuple(ToolCall(str(f["name"]), dict(f["arguments"])) for f in functions)
    except (TypeError, KeyError, ValueError):
        raise InputError(
            f"{where}: tool_calls must be a list of functions with name and arguments"
        ) from None


def _refuse_foreign(path: Path) -> None:
    if path.suffix.lower() == ".md":
        raise OutputError(f"{path} exists: {_WAYS_OUT}")
    try:
        load(path)
    except InputError as error:
        raise OutputError(f"{path} exists and is not a saved conversation: {_WAYS_OUT}") from error
