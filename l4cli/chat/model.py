"""The model of a chat: it encodes conversations, generates answers and counts what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from l4cli.chat.history.conversation import Conversation
from l4cli.chat.pace import Pace
from l4cli.chat.requests import requests_of
from l4cli.chat.stored import read_documents, recall_prompt
from l4cli.chat.tokens import ConversationTokens
from l4cli.chat.totals import Totals
from l4cli.chat.turn import AnswerView, Turn, generate
from l4cli.documents import Document
from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.answer import Answer
from l4cli.engine.types import SamplingParams
from l4cli.errors import ModelError, RequestError
from l4cli.loading.llm import LLM
from l4cli.speeds import Conditions

_STORED_EVERY = 30.0  # seconds of computing between saves of the KV cache: a kill may lose so much


class ChatModel:
    """A loaded model in a chat.

    llm: the model.
    tools: schemas of the functions that every prompt lists; None for none.
    conditions: what the speeds in `l4cli.speeds` depend on; None to neither use nor save them.

    The attribute `last` is the last answer, None before the first; `totals` sums up all of them.
    `is_loaded` is False after `unload`: the model is then of no use any more.

    ModelError if the model has no chat template.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        if llm.encoder.template is None:
            raise ModelError(
                f"{llm.name} has no chat template: it can only continue plain text (`l4 run --raw`)"
            )
        self.llm = llm
        self.tokens = ConversationTokens(llm, tools=tools)
        self.last: Answer | None = None
        self.totals = Totals()
        self.pace = Pace(conditions)
        self.is_loaded = True
        self._stored_after = 0.0  # `totals.seconds` when the KV cache was last stored
        self._ids = itertools.count(1)
        self._counted: tuple[Conversation, int] = (Conversation(), 0)

    def go_on_from(self, before: ChatModel) -> None:
        """Take over what `before`, the same model, has counted."""
        self.totals, self.last, self.pace = before.totals, before.last, before.pace
        self._stored_after, self._ids = before._stored_after, before._ids

    @property
    def n_ctx(self) -> int:
        return self.llm.n_ctx

    def num_tokens(self, conversation: Conversation) -> int:
        """Return how many tokens of the context a conversation takes up."""
        if self._counted[0] != conversation:
            self._counted = (conversation, self.tokens.count(conversation))
        return self._counted[1]

    def generate(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        view: Callable[[int], AnswerView],
        *,
        count: int = 1,
        at_once: int = 1,
        max_cached: int | None = None,
    ) -> Turn:
        """Generate `count` answers to a prompt; `ChatSession.generate` describes the arguments."""
        recall_prompt(self.llm, prompt)
        ids = [f"chat-{next(self._ids)}" for _ in range(count)]
        requests = requests_of(
            ids, prompt, params, n_ctx=self.n_ctx, at_once=at_once, max_cached=max_cached
        )
        self.llm.engine.retain(at_once)  # the user may continue any of them
        turn = generate(self.llm.engine, requests, view)
        self.totals.add(turn.answers)
        self.last = turn.answers[0]
        return turn

    # Documents.

    def documents(self, attached: Sequence[Document], system: str | None) -> DocumentPrompt | None:
        """Return documents as the beginning of a prompt, the same as in `l4 ask`.

        None if there are none, or if the chat template changes messages.
        """
        if not attached:
            return None
        around: dict[str, Any] = {"system": system, "tools": self.tokens.tools}
        try:
            return DocumentPrompt(self.llm.encoder, attached, **around)
        except RequestError:
            return None

    def read(self, documents: DocumentPrompt, view: Callable[[str], AnswerView]) -> Answer | None:
        """Restore documents, or compute and store them; an empty answer if the user stopped it."""
        stopped = read_documents(self.llm, documents, view, self.totals)
        if stopped:
            self.last = stopped
        return stopped

    # The KV cache on disk.

    def recall(self, conversation: Conversation) -> None:
        """Restore the KV cache of a conversation, as much of it as is stored."""
        with suppress(RequestError):  # some templates refuse a system message without a question
            self.llm.recall(self.tokens.of(conversation))

    def store(self, conversation: Conversation) -> None:
        """Store the KV cache of a conversation, as much of it as was computed."""
        if not self.is_loaded:
            return
        with suppress(RequestError):
            self.llm.remember(self.tokens.of(conversation))
        self._stored_after = self.totals.seconds

    @property
    def is_store_due(self) -> bool:
        """Whether much was computed since the KV cache was stored."""
        return self.totals.seconds - self._stored_after > _STORED_EVERY

    def unload(self) -> None:
        """Free the weights and the context."""
        self.is_loaded = False
        self.llm.close()

    def keep_speeds(self) -> None:
        """Save the speeds of this chat for later ones."""
        self.pace.keep(self.totals)
