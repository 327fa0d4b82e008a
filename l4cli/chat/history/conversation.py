"""What has been said, from the first message to the last. Pure values.

A `Conversation` is one path through a `Tree` (`tree.py`): what a chat template gets to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from l4cli.engine.types import FinishReason
from l4cli.errors import UsageError
from l4cli.prompt.tool_calls import ToolCall

Role = Literal["user", "assistant", "ipython"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said: by the user, by the model, or (`ipython`) by a tool it called.

    An answer keeps the `token_ids` it was generated as, if this model generated it, and why it
    ended; anything but "stop" means that it is only a part. One that calls tools has `tool_calls`
    in the place of their text. `is_edited` says that the user changed it. At `cuts`, offsets of
    characters, the content is tokenized apart, so that what stands before gives the same tokens
    whatever follows.
    """

    role: Role
    content: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    is_edited: bool = False
    cuts: tuple[int, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The content, in as many parts as it is tokenized in."""
        return tuple(self.content[a:b] for a, b in pairwise((0, *self.cuts, len(self.content))))

    def saying(self, content: str) -> Message:
        """The message with another content; cut as before, as far as both begin alike."""
        cuts = tuple(cut for cut in self.cuts if content[:cut] == self.content[:cut])
        return replace(self, content=content, cuts=cuts)

    @property
    def is_partial(self) -> bool:
        return self.finish_reason != "stop"

    @property
    def is_open(self) -> bool:
        """Whether the model can go on with it: it broke off, or the user had a hand in it."""
        return self.role == "assistant" and (self.is_partial or self.is_edited)

    def as_dict(self, *, in_sections: bool = False) -> dict[str, Any]:
        """The message as chat templates want it; `in_sections` as `PromptEncoder.chat` does."""
        role = "tool" if self.role == "ipython" else self.role  # as all families' templates say
        content = self.parts if in_sections and self.cuts else self.content
        message: dict[str, Any] = {"role": role, "content": content}
        if self.tool_calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                for c in self.tool_calls
            ]
        return message


@dataclass(frozen=True, slots=True)
class Conversation:
    """A system message, if any, and what the user and the model said in turn."""

    messages: tuple[Message, ...] = ()
    system: str | None = None

    @property
    def last_answer(self) -> Message | None:
        """The answer the conversation ends with; None if it ends with a question or is empty."""
        if self.messages and self.messages[-1].role == "assistant":
            return self.messages[-1]
        return None

    @property
    def num_questions(self) -> int:
        return sum(message.role == "user" for message in self.messages)

    def asked(self, text: str) -> Conversation:
        """With a question put at its end."""
        return self.extended(Message("user", text))

    def extended(self, *messages: Message) -> Conversation:
        """With messages put at its end."""
        return replace(self, messages=(*self.messages, *messages))

    def without_answer(self) -> Conversation:
        """Back to the last question, to be answered anew; UsageError if there is none."""
        if not self.messages:
            raise UsageError("nothing has been asked yet")
        if self.last_answer is None:
            return self
        return replace(self, messages=self.messages[:-1])

    def as_dicts(self, *, in_sections: bool = False) -> list[dict[str, Any]]:
        """The messages as chat templates want them; `in_sections` as `PromptEncoder.chat` does."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *(message.as_dict(in_sections=in_sections) for message in self.messages)]


def joined(parts: Sequence[str]) -> str:
    """Documents and then the question as one message: models answer best in this order."""
    return "\n\n".join(part for part in parts if part)
