"""A chat as it stands: the tree, settings, attached files, and what the last answer cost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from l4cli import console
from l4cli.chat.attachments import Attachment, documents_of, question
from l4cli.chat.history import export as storage
from l4cli.chat.history.conversation import Conversation, Message
from l4cli.chat.history.log import SessionLog
from l4cli.chat.history.session_file import SessionFile
from l4cli.chat.history.tree import ROOT, Tree
from l4cli.chat.pace import Pace
from l4cli.chat.requests import requests_of
from l4cli.chat.settings import SETTINGS, changed
from l4cli.chat.stored import read_documents, recall_prompt
from l4cli.chat.tokens import ConversationTokens
from l4cli.chat.tools.calls import calls_of
from l4cli.chat.tools.rounds import ToolRounds
from l4cli.chat.totals import Totals
from l4cli.chat.turn import AnswerView, generate
from l4cli.documents import Document
from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.answer import Answer
from l4cli.engine.types import SamplingParams
from l4cli.errors import (
    ContextOverflowError,
    InputError,
    L4Error,
    ModelError,
    RequestError,
    UsageError,
)
from l4cli.loading.llm import LLM
from l4cli.native import watcher
from l4cli.prompt.tool_calls import ToolCall
from l4cli.speeds import Conditions

NEARLY_FULL = 0.85
_STORED_EVERY = 30.0  # seconds of computing: so much may have to be done again after a kill


class ChatSession:
    """One conversation with one model, kept in `file` if there is one.

    `view` makes the place for the next answer to appear in; it is given what already stands there.
    Whatever a method raises, the conversation is then as it was before; but for OutputError, which
    says that the change was made and could not be written. Calls that have run, with `rounds` to
    carry them out, stay in it with their results.
    """

    def __init__(
        self,
        llm: LLM,
        view: Callable[[str], AnswerView],
        *,
        system: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        file: SessionFile | None = None,
        conditions: Conditions | None = None,
        rounds: ToolRounds | None = None,
    ) -> None:
        if llm.encoder.template is None:
            raise ModelError(
                f"{llm.name} has no chat template: it continues plain texts only (`l4 run --raw`)"
            )
        self.llm = llm
        self.rounds = rounds
        self.tokens = ConversationTokens(llm, tools=rounds.toolbox.schemas if rounds else None)
        self.tree = Tree()
        self.sampling: dict[str, Any] = {}
        self.attachments: list[Attachment] = []
        self.last: Answer | None = None
        self.totals = Totals()
        self.pace = Pace(conditions)
        self.losses: tuple[str, ...] = ()  # what could not be read of the session's file
        self.log: SessionLog | None = None
        self._stored_after = 0.0  # seconds of computing
        self._view = view
        self._ids = itertools.count(1)
        self._counted: tuple[Conversation, int] = (Conversation(), 0)
        if file:
            self.open(file)
        self.sampling |= {
            key: value for key, value in (sampling or {}).items() if value is not None
        }
        self.params()  # a wrong setting is told before the first question
        if rounds and not llm.encoder.takes_tools:
            raise ModelError(f"{llm.name} has a chat template that takes no tools")
        if system is not None:
            self.tree = self.tree.with_system(system)

    # Questions and answers.

    def ask(self, text: str) -> Answer:
        """Answer a question, with what is attached before it.

        ContextOverflowError, with the numbers and the ways out, if it does not fit.
        """
        before, is_first = self.tree, not self.conversation.messages
        message = question(text, self.attachments, is_first=is_first)
        documents = self.documents() if is_first else None
        try:
            if documents and (
                stopped := read_documents(self.llm, documents, self._view, self.totals)
            ):
                self.last = stopped
                return stopped
            return self._turn(before.said(message))
        finally:
            if self.tree is not before:
                self.attachments.clear()

    def regenerate(self) -> Answer:
        """Another answer to the last question, beside the one there is."""
        return self._turn(self.tree.at_question())

    def edit(self, id: int, text: str) -> Answer | None:
        """Say a message in other words, beside the one there is.

        A question is answered at once; an answer is put in the model's mouth, and `go_on` goes on
        from there.
        """
        node = self.tree.node(id)
        tree = self.tree.at(node.parent)
        if node.message.role == "assistant":
            self.become(tree.said(self.tokens.edited(node.message, text)))
            return None
        return self._turn(tree.said(node.message.saying(text)))

    def go_on(self) -> Answer:
        """Go on with an answer that was stopped, cut off or edited."""
        begun = self.conversation.last_answer
        if begun is None or not begun.is_open:
            raise UsageError("the last answer is whole; there is nothing to continue")
        ids = self.tokens.prompt_to_continue(self.conversation)
        (answer,) = self.generate(ids, lambda _: self._view(begun.content))
        if not answer.has_begun:
            return answer
        base = self.conversation.without_answer()
        own = (*ids[len(self.tokens.prompt(base)) :], *answer.token_ids)
        text = begun.content + answer.text
        longer = Message("assistant", text, own, answer.finish_reason)
        if self.tree.children(self.tree.head):  # what follows it was said to what it was
            self.become(self.tree.at_question().said(longer))
        else:
            self.become(self.tree.replaced(self.tree.head, longer))
        return self._followed(answer)

    def alternatives(self, count: int, on_begin: Callable[[int], None]) -> list[int]:
        """Answer the last question `count` times, in one batch where there is room; the ids.

        `on_begin(n)` is called before the n-th answer is shown. The first one is the head then.
        """
        params = self.params()
        if params.temperature == 0:
            raise UsageError("at temperature 0 all answers are the same; /set temperature 0.6")
        tree = self.tree.at_question()
        prompt = self.tokens.prompt(tree.conversation)
        at_once = min(count, self.llm.allow_parallel(count, prompt))

        def view(n: int) -> AnswerView:
            on_begin(n)
            return self._view("")

        answers = self.generate(prompt, view, count=count, at_once=at_once)
        question = tree.head
        for answer in answers:
            if answer.has_begun:
                tree = tree.at(question).said(_message(answer))
        ids = [id for id in tree.nodes if id not in self.tree.nodes]
        if ids:
            self.become(tree.at(ids[0]))
        return ids

    def _turn(self, tree: Tree) -> Answer:
        """Answer the message a tree ends with, and keep both; neither if nothing was said.

        A turn is one round, unless the answer calls tools: then it goes on until one does not.
        """
        return self._followed(self._round(tree))

    def _followed(self, answer: Answer) -> Answer:
        """The answer, or if it calls tools the one in which all that ends."""
        if self.rounds and answer.has_begun:
            self.last = self.rounds.follow(answer, self.calls, self._answer_to)
            return self.last
        return answer

    def _round(self, tree: Tree) -> Answer:
        view = (lambda _: rounds.view(lambda: self._view(""))) if (rounds := self.rounds) else None
        (answer,) = self.generate(self.tokens.prompt(tree.conversation), view)
        if answer.has_begun:
            self.become(tree.said(_message(answer)))
        return answer

    def _answer_to(self, results: Sequence[str]) -> Answer:
        """The model's answer to what its calls brought."""
        self.become(self.tree.said(*(Message("ipython", text) for text in results)))
        return self._round(self.tree)

    def calls(self) -> Sequence[ToolCall]:
        """What the last answer calls; nothing if it is only a part."""
        answer = self.conversation.last_answer
        if self.rounds is None or answer is None or answer.is_partial:
            return ()
        return calls_of(self.tokens.tagged_text(answer), self.rounds.toolbox.names)

    def generate(
        self,
        prompt: Sequence[int],
        view: Callable[[int], AnswerView] | None = None,
        *,
        count: int = 1,
        at_once: int = 1,
        max_tokens: int | None = None,
    ) -> list[Answer]:
        """`count` answers to a prompt, `at_once` of which share what is left of the context.

        Nothing is added to the conversation. ContextOverflowError if there is no room.
        """
        params = self.params()
        params = replace(params, max_tokens=max_tokens or params.max_tokens)
        recall_prompt(self.llm, prompt)
        ids = [f"chat-{next(self._ids)}" for _ in range(count)]
        requests = requests_of(ids, prompt, params, n_ctx=self.n_ctx, at_once=at_once)
        self.llm.engine.retain(at_once)  # any of them may be gone on with
        answers = generate(self.llm.engine, requests, view or (lambda _: self._view("")))
        self.totals.add(answers)
        self.last = answers[0]
        return answers

    # The tree, and what it takes up of the context.

    def become(self, tree: Tree) -> None:
        """Go over to another tree, which was made from this one, and write the difference."""
        self.tree = tree
        self._save()
        if self.log and self.totals.seconds - self._stored_after > _STORED_EVERY:
            self._store_state()

    @property
    def conversation(self) -> Conversation:
        return self.tree.conversation

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

    def undo(self) -> str:
        """Take back the last question and its answer; the question."""
        question = self.tree.last_question()
        self.become(self.tree.at(question.parent))
        return question.message.content

    def clear(self) -> None:
        """Begin anew; what was said stays in the tree."""
        self.attachments.clear()
        self.become(self.tree.at(ROOT))

    def set_system(self, text: str | None) -> None:
        self.become(self.tree.with_system(text))

    # Files and settings.

    def attach(self, name: str, text: str, document: Document | None = None) -> Attachment:
        """Put a text before the next question; ContextOverflowError if it could never be sent.

        A document goes in front of the conversation, if nothing was said in it yet.
        """
        attachment = Attachment(name, text, self.tokens.count_text(text), document)
        left = self.n_ctx - self.num_tokens - sum(a.num_tokens for a in self.attachments)
        if attachment.num_tokens >= left:
            raise ContextOverflowError(
                f"{name} has {attachment.num_tokens:,} tokens, of the context's {self.n_ctx:,} "
                f"{left:,} are left: /clear or /compact makes room, a larger --ctx gives more"
            )
        self.attachments.append(attachment)
        return attachment

    def documents(self) -> DocumentPrompt | None:
        """The attached documents as `l4 ask` begins with them; None if there are none."""
        attached = documents_of(self.attachments)
        if not attached:
            return None
        around: dict[str, Any] = {"system": self.tree.system, "tools": self.tokens.tools}
        try:
            return DocumentPrompt(self.llm.encoder, attached, **around)
        except RequestError:  # a template that changes messages
            return None

    def reading_seconds(self, num_tokens: int) -> float | None:
        """How long so many more tokens take to be read; None if nothing tells."""
        return self.pace.reading_seconds(num_tokens, self.num_tokens, self.totals)

    def params(self) -> SamplingParams:
        """How the next answer will be drawn."""
        return self.llm.params(**self.sampling)

    def set(self, name: str, value: str) -> None:
        """Change a sampling setting, `default` takes it back; UsageError if it makes no sense."""
        sampling = changed(self.sampling, name, value)
        self.llm.params(**sampling)
        self.sampling = sampling
        self._save()

    # On disk.

    def save(self, path: Path) -> None:
        """Write the messages that lead to the head to a file of their own."""
        storage.save(self.conversation, path)

    def load(self, path: Path) -> None:
        """Go on with saved messages, as a branch of their own."""
        loaded = storage.load(path)
        self.attachments.clear()
        self.losses = ()
        self.become(self.tree.at(ROOT).with_system(loaded.system).said(*loaded.messages))

    def open(self, file: SessionFile) -> None:
        """Go on in another session; `losses` then says what could not be read of it.

        What is stored of its KV cache is restored. InputError if there is nothing of a session in
        the file; it is then closed, and the chat is as it was.
        """
        log = SessionLog(file, self.llm.name, self.llm.fingerprint)
        try:
            found = log.read(self.tokens.is_text)
        except InputError:
            file.close()
            raise
        self.close()
        self.log, self.losses, self.tree = log, found.losses, found.tree
        again = console.command_line("--session", file.name, without=("-c", "--continue"))
        watcher.tell(f"every finished turn is in the session {file.name}", f"go on with: {again}")
        self.sampling = {k: v for k, v in found.settings.items() if k in SETTINGS}
        try:
            self.params()
        except L4Error as error:
            self.sampling = {}
            self.losses += (f"its settings: {error}",)
        self.attachments.clear()
        if self.tree.head != ROOT:
            self.llm.recall(self.tokens.of(self.conversation))

    @property
    def file(self) -> SessionFile | None:
        """The session's file; None if this chat is not kept."""
        return self.log.file if self.log else None

    def close(self) -> None:
        """Leave the session: its KV cache is stored, its file is free for others. Idempotent."""
        self.pace.keep(self.totals)
        if self.log and self.log.file.exists:
            self._store_state()
            self.log.file.close()
        self.log = None

    def _save(self) -> None:
        if self.log:
            kept = {key: value for key, value in self.sampling.items() if key in SETTINGS}
            self.log.write(self.tree, kept)

    def _store_state(self) -> None:
        """Store the KV cache of the conversation as far as it was computed."""
        self.llm.remember(self.tokens.of(self.conversation))
        self._stored_after = self.totals.seconds


def _message(answer: Answer) -> Message:
    return Message("assistant", answer.text, tuple(answer.token_ids), answer.finish_reason)
