"""What a chat template understands, found out by showing it messages with telltale words.

Templates disagree about how they want to be given the same thing: a content as a text or as a list
of parts, the arguments of a call as an object or as JSON text, no content as "" or as null, ids of
nine characters. None of them says which. Given the wrong one, some fail, and some leave it out
without a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

from l4cli.errors import RequestError
from l4cli.prompt.template import ChatTemplate, Message

_SECONDS = 1.0  # for one look at a template
_WORDS = {"system": "qzrules", "user": "qzasked", "assistant": "qzsaid", "tool": "qzfound"}
_NAME, _KEY, _VALUE = "qzfunction", "qzkey", "qzvalue"
_LONG_ID, _SHORT_ID = "call_qz00001", "qz0000001"  # OpenAI's, and all that Mistral's take
TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": _NAME,
        "parameters": {
            "type": "object",
            "properties": {_KEY: {"type": "string", "description": _KEY}},
            "required": [_KEY],
        },
    },
}

NoContent = Literal["missing", "null", "empty"]
NO_CONTENT: Mapping[NoContent, Mapping[str, Any]] = {
    "missing": {},  # as transformers does
    "null": {"content": None},
    "empty": {"content": ""},
}


class CallForm(NamedTuple):
    """How a template wants an assistant's message that calls functions.

    as_text: the arguments as JSON text, not as an object.
    no_content: how it is told that there is no content beside the calls.
    with_empty: whether it shows calls beside a content that is "".
    short_ids: whether ids must have nine letters and digits.
    """

    as_text: bool = False
    no_content: NoContent = "empty"
    with_empty: bool = True
    short_ids: bool = False


class Abilities:
    """What one template understands. Each ability is looked at when it is first asked for."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self.takes_parts = lru_cache(None)(self._takes_parts)
        self.wants_parts = lru_cache(None)(self._wants_parts)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the model is told of the tools. A template that refuses them says so itself."""
        question = _said("user")
        seen = [self._show([question], [TOOL]), self._show([_said("system"), question], [TOOL])]
        return any(_NAME in text for text in seen if text) or seen == [None, None]

    @cached_property
    def calls(self) -> CallForm:
        for id in (_LONG_ID, _SHORT_ID):
            for as_text in (False, True):
                shown = [
                    name
                    for name, content in NO_CONTENT.items()
                    if self._shows_call(as_text, content, id)
                ]
                if shown:
                    return CallForm(as_text, shown[0], "empty" in shown, id == _SHORT_ID)
        return CallForm()

    def _shows_call(self, as_text: bool, content: Mapping[str, Any], id: str) -> bool:
        """Whether a call is shown in full; a Python object's text instead of JSON is not."""
        arguments: Any = f'{{"{_KEY}": "{_VALUE}"}}' if as_text else {_KEY: _VALUE}
        function = {"name": _NAME, "arguments": arguments}
        call = {"id": id, "type": "function", "function": function}
        messages = [
            _said("user"),
            {"role": "assistant", **content, "tool_calls": [call]},
            {**_said("tool"), "tool_call_id": id, "name": _NAME},
        ]
        text = self._show(messages, [TOOL]) or self._show(messages) or ""
        start = text.rfind(_WORDS["user"])  # tools are told of before it, or in it
        text = text[start:] if text.count(_KEY) > 1 else text
        if content == {"content": None} and "None" in text:
            return False
        if as_text and '\\"' in text:  # JSON in JSON
            return False
        return _VALUE in text and f"'{_KEY}'" not in text

    def _takes_parts(self, role: str) -> bool:
        """Whether the texts of a list of parts are shown, and nothing else of it."""
        word = _WORDS.get(role, "qzwords")
        text = self._show_role(role, [{"type": "text", "text": word + n} for n in ("1", "2")])
        return (
            text is not None
            and f"{word}1" in text
            and f"{word}2" in text
            and "type" not in (text[text.index(f"{word}1") : text.index(f"{word}2")])
        )

    def _wants_parts(self, role: str) -> bool:
        """Whether a text is shown only as a list with one part."""
        word = _WORDS.get(role, "qzwords")
        text = self._show_role(role, word)
        return (text is None or word not in text) and self.takes_parts(role)

    def _show_role(self, role: str, content: Any) -> str | None:
        """A short conversation in which one role's content is given in this form."""
        for roles in _around(role):
            messages = [
                {"role": other, "content": content if other == role else "x"} for other in roles
            ]
            if (text := self._show(messages)) is not None:
                return text
        return None

    def _show(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str | None:
        try:
            return self._template.render(messages, tools=tools, seconds=_SECONDS)
        except RequestError:
            return None


def _around(role: str) -> Iterable[tuple[str, ...]]:
    """Conversations that a role can stand in, the likeliest first."""
    if role == "assistant":
        return [("user", "assistant", "user")]
    if role == "system":
        return [("system", "user"), ("system",)]
    if role == "user":
        return [("user",)]
    return [("user", "assistant", role), ("user", role), (role,)]


def _said(role: str) -> dict[str, Any]:
    return {"role": role, "content": _WORDS.get(role, "qzwords")}
