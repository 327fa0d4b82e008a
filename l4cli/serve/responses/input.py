"""Reads the input of OpenAI's /v1/responses: items become messages as chat templates know them.

What a response's output has are items, too. So a conversation is one list of items, whether the
client sends all of them or names the response that they follow. The functions raise InputError with
a message that begins with the item's place, such as input[2].content[0].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l4cli.errors import InputError
from l4cli.openai import fields
from l4cli.prompt import strict_json

Item = Mapping[str, Any]
Message = Mapping[str, Any]

_BETWEEN = "\n\n"
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = {"input_text": "text", "output_text": "text", "reasoning_text": "text", "text": "text"}
_TEXTS |= {"summary_text": "text", "refusal": "refusal"}


def items(value: Any) -> tuple[Item, ...]:
    """Return the input as items; a text is a user's message."""
    if isinstance(value, str):
        return ({"type": "message", "role": "user", "content": value},)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError("input must be a string or a list of items")
    if not value:
        raise InputError("input is empty")
    return tuple(value)


def conversation(
    before: Sequence[Item], given: Sequence[Item], instructions: str | None
) -> tuple[Message, ...]:
    """Return the messages of a conversation.

    before: the items of the responses that this one follows.
    given: the items of this request.
    instructions: the system's text, which comes first.
    """
    reader = _Reader(instructions)
    for item in before:
        reader.read("the previous response", item)
    for index, item in enumerate(given):
        reader.read(f"input[{index}]", item)
    return tuple(reader.messages)


class _Reader:
    """Collects the messages of a conversation."""

    def __init__(self, instructions: str | None) -> None:
        self.messages: list[dict[str, Any]] = []
        self._calls: dict[str, str] = {}  # the name of the function of each call, by its id
        if instructions:
            self.messages.append({"role": "system", "content": instructions})

    def read(self, place: str, item: Item) -> None:
        kind = item.get("type", "message")
        if kind == "message":
            self._add_message(place, item)
        elif kind == "function_call":
            self._add_call(place, item)
        elif kind == "function_call_output":
            self._add_result(place, item)
        elif kind == "reasoning":
            self._add_thought(place, item)
        else:
            raise InputError(
                f"{place} has the type {kind!r}; supported: message, function_call, "
                "function_call_output, reasoning"
            )

    def _add_message(self, place: str, item: Item) -> None:
        given = item.get("role")
        role = _ROLES.get(given) if isinstance(given, str) else None
        if role is None:
            raise InputError(f"{place}.role must be one of {', '.join(_ROLES)}, not {given!r}")
        text = _text(f"{place}.content", item.get("content"))
        if role == "assistant":
            self._next_answer()["content"] = text
        elif role == "system" and len(self.messages) == 1 and self._last_role == "system":
            self.messages[0]["content"] += _BETWEEN + text  # templates want only one
        else:
            self.messages.append({"role": role, "content": text})

    def _add_thought(self, place: str, item: Item) -> None:
        parts = item.get("content") or item.get("summary") or []
        thought = _text(f"{place}.content", parts)
        if not thought:
            return
        last = self._next_answer()
        before = last.get("reasoning_content", "")
        last["reasoning_content"] = _BETWEEN.join(filter(None, [before, thought]))

    def _add_call(self, place: str, item: Item) -> None:
        name = fields.text(f"{place}.name", item.get("name"))
        call_id = fields.text(f"{place}.call_id", item.get("call_id"))
        written = fields.text(f"{place}.arguments", item.get("arguments"))
        try:
            arguments = strict_json.parse(written or "{}", is_finite=True)
        except InputError as error:
            raise InputError(f"{place}.arguments: {error}") from None
        if not isinstance(arguments, dict):
            raise InputError(f"{place}.arguments must be the JSON text of an object")
        self._calls[call_id] = name
        function = {"name": name, "arguments": arguments}
        call = {"id": call_id, "type": "function", "function": function}
        self._answer().setdefault("tool_calls", []).append(call)

    def _add_result(self, place: str, item: Item) -> None:
        call_id = fields.text(f"{place}.call_id", item.get("call_id"))
        if call_id not in self._calls:
            raise InputError(f"{place}.call_id is of no function_call before it: {call_id!r}")
        self.messages.append(
            {
                "role": "tool",
                "content": _text(f"{place}.output", item.get("output")),
                "tool_call_id": call_id,
                "name": self._calls[call_id],
            }
        )

    @property
    def _last_role(self) -> Any:
        return self.messages[-1]["role"] if self.messages else None

    def _answer(self) -> dict[str, Any]:
        """The assistant's message at the end, which is made if there is none."""
        if self._last_role != "assistant":
            self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]

    def _next_answer(self) -> dict[str, Any]:
        """The assistant's message at the end, without a content: what is thought comes before."""
        last = self._answer()
        if last["content"] or last.get("tool_calls"):
            self.messages.append({"role": "assistant", "content": ""})
        return self.messages[-1]


def _text(place: str, content: Any) -> str:
    """Return a content's text; the texts of a list of parts are joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise InputError(f"{place} must be a string or a list of parts")
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type")
        name = _TEXTS.get(kind) if isinstance(kind, str) else None
        if name is None:
            what = "an image" if kind == "input_image" else f"a part of type {kind!r}"
            raise InputError(f"{place}[{index}] is {what}: this server reads text only")
        texts.append(fields.text(f"{place}[{index}].{name}", part.get(name)))
    return "".join(texts)
