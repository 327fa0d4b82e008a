"""Messages, and a conversation from the first message to the last. Pure values.

A `Conversation` is one path through a `Tree` (`tree.py`). It is what the chat template gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from l4cli.engine.types import FinishReason
from l4cli.errors import UsageError
from l4cli.prompt.tool_calls import ToolCall

NO_QUESTION = "nothing has been asked yet (a question stopped before its answer is not kept)"

Role = Literal["user", "assistant", "ipython"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: by the user, by the model, or (role `ipython`) the result of a tool call.

    token_ids: the tokens that an answer was generated as; empty if they are not known or belong to
        another model.
    finish_reason: why an answer ended; anything but "stop" means that the answer is incomplete.
    tool_calls: the calls of an answer that was loaded from a file; they replace its text.
    is_edited: whether the user changed the answer.
    cuts: character offsets at which the content is split before it is tokenized. The text before a
        cut gives the same tokens whatever follows it.
    num_cached: how many tokens of an answer's prompt were in the KV cache; None if not known.
    """

    role: Role
    content: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    is_edited: bool = False
    cuts: tuple[int, ...] = ()
    num_cached: int | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The content, split at `cuts`: the parts that are tokenized separately."""
        return tuple(self.content[a:b] for a, b in pairwise((0, *self.cuts, len(self.content))))

    def saying(self, content: str) -> Message:
        """Return the message with another content.

        The cuts before which both contents are equal stay.
        """
        cuts = tuple(cut for cut in self.cuts if content[:cut] == self.content[:cut])
        return replace(self, content=content, cuts=cuts)

    @property
    def is_partial(self) -> bool:
        return self.finish_reason != "stop"

    @property
    def is_open(self) -> bool:
        """Whether the model can continue this answer: it is incomplete, or the user edited it."""
        return self.role == "assistant" and (self.is_partial or self.is_edited)

    def as_dict(self, *, in_sections: bool = False) -> dict[str, Any]:
        """Return the message in the form that chat templates take.

        With `in_sections`, a content with cuts is a tuple of its parts, for `PromptEncoder.chat`.
        """
        # The templates of all model families call a tool's result "tool".
        role = "tool" if self.role == "ipython" else self.role
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
    """A system message, if any, and the messages of the user, the model and its tools."""

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
        """Return the conversation with a question added at its end."""
        return self.extended(Message("user", text))

    def extended(self, *messages: Message) -> Conversation:
        """Return the conversation with messages added at its end."""
        return replace(self, messages=(*self.messages, *messages))

    def without_answer(self) -> Conversation:
        """Return the conversation without its last answer; UsageError if it is empty."""
        if not self.messages:
            raise UsageError(NO_QUESTION)
        if self.last_answer is None:
            return self
        return replace(self, messages=self.messages[:-1])

    def as_dicts(self, *, in_sections: bool = False) -> list[dict[str, Any]]:
        """Return all messages, the system message first; `in_sections` as in `Message.as_dict`."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *(message.as_dict(in_sections=in_sections) for message in self.messages)]


def joined(parts: Sequence[str]) -> str:
    """Join texts into one message. Models answer best if the question comes last."""
    return "\n\n".join(part for part in parts if part)
