"""What has been said. Pure values: every change makes a new conversation.

A turn that fails leaves the old value in place, so it cannot damage the history; and branches, when
they come, are conversations that share their beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from l4cli.engine.types import FinishReason
from l4cli.errors import UsageError

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said.

    An answer keeps the `token_ids` it was generated as, if this model generated it, and why it
    ended; anything but "stop" means that it is only a part.
    """

    role: Role
    content: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"

    @property
    def is_partial(self) -> bool:
        return self.finish_reason != "stop"


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
        return replace(self, messages=(*self.messages, Message("user", text)))

    def answered(self, answer: Message) -> Conversation:
        """With an answer, whole or partial, put at its end."""
        return replace(self, messages=(*self.messages, answer))

    def without_answer(self) -> Conversation:
        """Back to the last question, to be answered anew; UsageError if there is none."""
        if not self.messages:
            raise UsageError("nothing has been asked yet")
        if self.last_answer is None:
            return self
        return replace(self, messages=self.messages[:-1])

    def undone(self) -> Conversation:
        """Without the last question and what came after it; UsageError if there is none."""
        questions = [i for i, message in enumerate(self.messages) if message.role == "user"]
        if not questions:
            raise UsageError("there is nothing to undo")
        return replace(self, messages=self.messages[: questions[-1]])

    def cleared(self) -> Conversation:
        """Only the system message left."""
        return replace(self, messages=())

    def with_system(self, text: str | None) -> Conversation:
        return replace(self, system=text or None)

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as chat templates want them."""
        head = [{"role": "system", "content": self.system}] if self.system else []
        return [*head, *({"role": m.role, "content": m.content} for m in self.messages)]


def joined(parts: Sequence[str]) -> str:
    """Documents and then the question as one message: models answer best in this order."""
    return "\n\n".join(part for part in parts if part)
