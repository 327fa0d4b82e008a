"""Messages in the form that a chat template wants them; what they say stays the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from l4cli.engine.thoughts import Thoughts
from l4cli.prompt.abilities import NO_CONTENT, Abilities, CallForm
from l4cli.prompt.template import Message

_REASONING = ("reasoning_content", "thinking", "reasoning")


def fitted(messages: Sequence[Message], abilities: Abilities) -> list[Message]:
    """The messages for the template with these abilities."""
    messages = [_with_reasoning(_without_nulls(message)) for message in messages]
    if any(message.get("tool_calls") or message.get("role") == "tool" for message in messages):
        form = abilities.calls
        if form.short_ids:
            messages = _with_short_ids(messages)
        messages = [_with_calls(message, form) for message in messages]
    return [_with_content(message, abilities) for message in messages]


def _without_nulls(message: Message) -> Message:
    """As transformers does: many templates take null for a text, and no template a missing key."""
    return {key: value for key, value in message.items() if value is not None}


def with_thought_apart(message: Message, thoughts: Thoughts) -> Message:
    """The message with what it thought by itself, where the template does not look for it."""
    content = message.get("content")
    if message.get("role") != "assistant" or not isinstance(content, str):
        return message
    thought, said = thoughts.parts(content)
    return {"reasoning_content": thought, **message, "content": said} if thought else message


def _with_reasoning(message: Message) -> Message:
    """What was thought, under each of the names that templates know; as transformers does."""
    thought = next((message[name] for name in _REASONING if name in message), None)
    if thought is None:
        return message
    return {"thinking": thought, **message, "reasoning_content": thought}


def _with_content(message: Message, abilities: Abilities) -> Message:
    content, role = message.get("content"), message.get("role")
    if not isinstance(role, str) or not content:
        return message
    if isinstance(content, str) and abilities.wants_parts(role):
        return {**message, "content": [{"type": "text", "text": content}]}
    if _is_parts(content) and not abilities.takes_parts(role):
        return {**message, "content": "".join(part["text"] for part in content)}
    return message


def _is_parts(content: Any) -> bool:
    return isinstance(content, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    )


def _with_calls(message: Message, form: CallForm) -> Message:
    if not message.get("tool_calls"):
        return message
    changed = {**message, "tool_calls": [_call(call, form) for call in message["tool_calls"]]}
    content = message.get("content")
    if content is None or (content == "" and not form.with_empty):
        changed.pop("content", None)
        changed |= NO_CONTENT[form.no_content]
    return changed


def _call(call: Mapping[str, Any], form: CallForm) -> Mapping[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    if not form.as_text or not isinstance(arguments, Mapping):
        return call
    function = {**function, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {**call, "function": function} if "function" in call else function


def _with_short_ids(messages: Sequence[Message]) -> list[Message]:
    """The messages with ids of nine characters, the same for a call and its result.

    Where a result names no call, it belongs to the first one that has none yet.
    """
    changed: list[Message] = []
    open_ids: list[str] = []
    for number, message in enumerate(messages):
        if message.get("tool_calls"):
            open_ids = [
                _short(call.get("id"), f"{number}/{index}")
                for index, call in enumerate(message["tool_calls"])
            ]
            calls = [
                {**call, "id": id} for call, id in zip(message["tool_calls"], open_ids, strict=True)
            ]
            message = {**message, "tool_calls": calls}
        elif message.get("role") == "tool":
            given = message.get("tool_call_id")
            id = _short(given, open_ids[0] if open_ids else f"{number}")
            if id in open_ids:
                open_ids.remove(id)
            message = {**message, "tool_call_id": id}
        changed.append(message)
    return changed


def _short(id: Any, otherwise: str) -> str:
    text = id if isinstance(id, str) and id else otherwise
    if len(text) == 9 and text.isascii() and text.isalnum():
        return text
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:9]
