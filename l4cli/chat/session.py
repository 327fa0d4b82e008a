"""A chat as it stands: conversation, settings, attached files, and what the last answer cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from l4cli.chat import storage
from l4cli.chat.conversation import Conversation, Message, joined
from l4cli.chat.tokens import ConversationTokens
from l4cli.chat.turn import Answer, AnswerView, generate
from l4cli.engine.types import Request
from l4cli.errors import ContextOverflowError, ModelError, UsageError
from l4cli.llm import LLM

# SamplingParams that /set knows, and how their values are written.
SETTINGS: Mapping[str, Callable[[str], float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "seed": int,
    "max_tokens": int,
}
NEARLY_FULL = 0.85


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes before the next question."""

    name: str
    text: str
    num_tokens: int


class ChatSession:
    """One conversation with one model.

    `view` makes the place for the next answer to appear in; it is given what already stands there.
    Whatever a method raises, the conversation is then as it was before.
    """

    def __init__(
        self,
        llm: LLM,
        view: Callable[[str], AnswerView],
        *,
        system: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        if llm.encoder.template is None:
            raise ModelError(
                f"{llm.name} has no chat template: it continues plain texts only (`l4 run --raw`)"
            )
        self.llm = llm
        self.conversation = Conversation(system=system)
        self.sampling: dict[str, Any] = {k: v for k, v in (sampling or {}).items() if v is not None}
        self.attachments: list[Attachment] = []
        self.last: Answer | None = None
        self.tokens = ConversationTokens(llm)
        self._view = view
        self._ids = itertools.count(1)
        self._counted: tuple[Conversation, int] = (Conversation(), 0)
        llm.params(**self.sampling)  # a wrong setting is told before the first question

    # Questions and answers.

    def ask(self, text: str) -> Answer:
        """Answer a question, with the attached files before it.

        ContextOverflowError, with the numbers and the ways out, if it does not fit.
        """
        before = self.conversation
        message = joined([*(a.text for a in self.attachments), text])
        answer = self._answer(before.asked(message))
        if self.conversation is not before:
            self.attachments.clear()
        return answer

    def regenerate(self) -> Answer:
        """Another answer to the last question."""
        return self._answer(self.conversation.without_answer())

    def go_on(self) -> Answer:
        """Go on with an answer that was stopped or cut off."""
        begun = self.conversation.last_answer
        if begun is None or not begun.is_partial:
            raise UsageError("the last answer is whole; there is nothing to continue")
        ids = self.tokens.prompt_to_continue(self.conversation)
        base = self.conversation.without_answer()
        answer = self._generate(ids, begun.content)
        text = begun.content + answer.text
        own = (*ids[len(self.tokens.prompt(base)) :], *answer.token_ids)
        self.conversation = base.answered(Message("assistant", text, own, answer.finish_reason))
        return answer

    def _answer(self, conversation: Conversation) -> Answer:
        answer = self._generate(self.tokens.prompt(conversation), "")
        if answer.finish_reason == "abort" and not answer.token_ids:
            return answer  # stopped before it began: as if it had not been asked
        message = Message("assistant", answer.text, tuple(answer.token_ids), answer.finish_reason)
        self.conversation = conversation.answered(message)
        return answer

    def _generate(self, ids: list[int], shown: str) -> Answer:
        left = self.n_ctx - len(ids)
        if left < 1:
            raise ContextOverflowError(
                f"this turn needs {len(ids):,} tokens and room for an answer, the context holds "
                f"{self.n_ctx:,}: /undo or /clear makes room, a larger --ctx gives more"
            )
        params = self.llm.params(**self.sampling)
        params = replace(params, max_tokens=min(params.max_tokens or left, left))
        view = self._view(shown)
        try:
            request = Request(f"chat-{next(self._ids)}", tuple(ids), params)
            self.last = generate(self.llm.engine, request, view)
        finally:
            view.close()
        return self.last

    # What the context holds.

    @property
    def n_ctx(self) -> int:
        return self.llm.n_ctx

    @property
    def num_tokens(self) -> int:
        """Tokens of the context that the conversation takes up."""
        if self._counted[0] != self.conversation:
            self._counted = (self.conversation, self.tokens.count(self.conversation))
        return self._counted[1]

    @property
    def is_nearly_full(self) -> bool:
        return self.num_tokens >= NEARLY_FULL * self.n_ctx

    # Commands.

    def attach(self, name: str, text: str) -> Attachment:
        """Put a text before the next question."""
        attachment = Attachment(name, text, self.tokens.count_text(text))
        self.attachments.append(attachment)
        return attachment

    def set(self, name: str, value: str) -> None:
        """Change a sampling setting, `default` takes it back; UsageError if it makes no sense."""
        if name not in SETTINGS:
            raise UsageError(f"no setting {name!r}; there are {', '.join(SETTINGS)}")
        changed = {key: old for key, old in self.sampling.items() if key != name}
        if value != "default":
            try:
                changed[name] = SETTINGS[name](value)
            except ValueError:
                raise UsageError(f"{name} must be a number or `default`, not {value!r}") from None
        self.llm.params(**changed)
        self.sampling = changed

    def undo(self) -> str:
        """Take back the last question and its answer; the question."""
        undone = self.conversation.undone()
        question = self.conversation.messages[len(undone.messages)].content
        self.conversation = undone
        return question

    def clear(self) -> None:
        self.conversation = self.conversation.cleared()
        self.attachments.clear()

    def set_system(self, text: str | None) -> None:
        self.conversation = self.conversation.with_system(text)

    def save(self, path: Path) -> None:
        storage.save(self.conversation, path)

    def load(self, path: Path) -> None:
        """Replace the conversation by a saved one."""
        self.conversation = storage.load(path)
        self.attachments.clear()
