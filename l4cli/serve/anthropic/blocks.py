"""Reads the conversation of a body of Anthropic's /v1/messages: system text and messages of blocks.

What comes out are messages as chat templates know them. Blocks of text are joined by an empty line,
and so are messages of the same role that follow each other, since many templates want roles that
take turns. Each result of a tool becomes a message of its own. The functions raise InputError with
a message that begins with the field's place, such as messages[2].content[0].
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from l4cli.errors import InputError
from l4cli.openai import fields

_BETWEEN = "\n\n"
# Claude Code begins its system text with a line for Anthropic's accounting. Its checksum, `cch`,
# differs in every request, and everything behind it would have to be computed again.
_CHECKSUM = re.compile(r"(x-anthropic-billing-header:[^\n]*?\bcch=)[0-9a-f]{5}(?=;)")
_ERROR = "Error: "

Message = Mapping[str, Any]


def conversation(system: Any, messages: Any) -> tuple[Message, ...]:
    """Return the messages of a conversation, with the system text as the first one."""
    reader = _Reader()
    if system is not None:
        reader.add_text("system", _system_text(system))
    given = fields.objects("messages", messages)
    if not given:
        raise InputError("messages is empty")
    for index, message in enumerate(given):
        reader.read(f"messages[{index}]", message)
    return tuple(reader.messages)


def _system_text(system: Any) -> str:
    text = system if isinstance(system, str) else _text_of("system", system)
    found = _CHECKSUM.match(text)
    return f"{found[1]}fffff{text[found.end() :]}" if found else text


class _Reader:
    """Collects the messages of a conversation."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self._calls: dict[str, str] = {}  # the name of the function of each call, by its id

    def read(self, place: str, message: Message) -> None:
        """Add one of the body's messages."""
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant", "system"):
            raise InputError(f"{place}.role must be user, assistant or system, not {role!r}")
        if isinstance(content, str):
            self.add_text(role, content)
            return
        for at, block in _blocks(f"{place}.content", content):
            self._add(at, role, block)
        if not content:  # an answer that was empty
            self.add_text(role, "")

    def add_text(self, role: str, text: str) -> None:
        """Add text to the last message, or begin a message of this role with it."""
        last = self._current(role)
        last["content"] = _BETWEEN.join(filter(None, [last["content"], text]))

    def _current(self, role: str) -> dict[str, Any]:
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": ""})
        return self.messages[-1]

    def _add(self, place: str, role: str, block: Message) -> None:
        kind = block.get("type")
        if kind == "text":
            self.add_text(role, fields.text(f"{place}.text", block.get("text")))
        elif kind == "tool_result" and role == "user":
            self._add_result(place, block)
        elif kind == "tool_use" and role == "assistant":
            self._add_call(place, block)
        elif kind == "thinking" and role == "assistant":
            thought = fields.text(f"{place}.thinking", block.get("thinking"))
            last = self._current(role)
            before = last.get("reasoning_content", "")
            last["reasoning_content"] = _BETWEEN.join(filter(None, [before, thought]))
        else:
            raise _unsupported(place, kind, role)

    def _add_call(self, place: str, block: Message) -> None:
        name = fields.text(f"{place}.name", block.get("name"))
        call_id = fields.text(f"{place}.id", block.get("id"))
        arguments = block.get("input")
        if not isinstance(arguments, dict):
            raise InputError(f"{place}.input must be an object")
        self._calls[call_id] = name
        function = {"name": name, "arguments": arguments}
        call = {"id": call_id, "type": "function", "function": function}
        self._current("assistant").setdefault("tool_calls", []).append(call)

    def _add_result(self, place: str, block: Message) -> None:
        call_id = fields.text(f"{place}.tool_use_id", block.get("tool_use_id"))
        if call_id not in self._calls:
            raise InputError(f"{place}.tool_use_id is of no tool_use before it: {call_id!r}")
        content = block.get("content") or ""
        text = content if isinstance(content, str) else _text_of(f"{place}.content", content)
        if fields.flag("is_error", block, False) and not text.lower().startswith("error"):
            text = _ERROR + text
        self.messages.append(
            {
                "role": "tool",
                "content": text,
                "tool_call_id": call_id,
                "name": self._calls[call_id],
            }
        )


def _text_of(place: str, blocks: Any) -> str:
    """Return the text of a list of blocks, which may have nothing else."""
    texts = []
    for at, block in _blocks(place, blocks):
        if block.get("type") != "text":
            raise _unsupported(at, block.get("type"), "text")
        texts.append(fields.text(f"{at}.text", block.get("text")))
    return _BETWEEN.join(filter(None, texts))


def _blocks(place: str, value: Any) -> Sequence[tuple[str, Message]]:
    """Return blocks, each with its place."""
    if not isinstance(value, list) or not all(isinstance(block, dict) for block in value):
        raise InputError(f"{place} must be a string or a list of blocks")
    return [(f"{place}[{index}]", block) for index, block in enumerate(value)]


def _unsupported(place: str, kind: Any, where: str) -> InputError:
    if kind == "image":
        return InputError(f"{place} is an image: this server reads text only, leave it out")
    if kind == "redacted_thinking":
        return InputError(f"{place} is a thought that only Anthropic can read: leave it out")
    if kind == "document":
        return InputError(f"{place} is a document: send its text as a block of type text")
    return InputError(f"{place} has the type {kind!r}, which is not supported in {where} content")
