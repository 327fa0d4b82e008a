"""A running chat: its tree, settings, attached files, and the cost of the last answer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from l4cli.engine.types import Constraint, SamplingParams
from l4cli.errors import (
    EXITS_THAT_LEAVE,
    ContextOverflowError,
    InputError,
    L4Error,
    ModelError,
    OutputError,
    RequestError,
    UsageError,
)
from l4cli.loading.llm import LLM
from l4cli.native import watcher
from l4cli.prompt.tool_calls import ToolCall, calls_in_channels
from l4cli.signals import GivenUpError
from l4cli.speeds import Conditions

NEARLY_FULL = 0.85
_STORED_EVERY = 30.0  # seconds of computing between saves of the KV cache: a kill may lose so much


class ChatSession:
    """One conversation with one model.

    llm: the model.
    view: makes the view in which the next answer appears. Its argument is the text that the answer
        already has when it is continued, else "".
    system: the system message; None for that of the session file, if any.
    sampling: sampling settings; None as a value means that it is not given.
    file: the session file that keeps the conversation; None to keep nothing.
    conditions: what the speeds in `l4cli.speeds` depend on; None to neither use nor save them.
    rounds: runs the tools that the model calls; None for a chat without tools.

    The attribute `constraint` is what every answer must match; None for anything.

    If a method raises an error, the conversation is as it was before, with two exceptions. After an
    OutputError the change was made, but not written to the file. Tool calls that have already run
    stay in the conversation with their results.
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
                f"{llm.name} has no chat template: it can only continue plain text (`l4 run --raw`)"
            )
        self.llm = llm
        self.rounds = rounds
        self.tokens = ConversationTokens(llm, tools=rounds.toolbox.schemas if rounds else None)
        self.tree = Tree()
        self.sampling: dict[str, Any] = {}
        self.constraint: Constraint | None = None
        self.attachments: list[Attachment] = []
        self.last: Answer | None = None
        self.totals = Totals()
        self.pace = Pace(conditions)
        self.losses: tuple[
            str, ...
        ] = ()  # one line for each part of the session file that could not be read
        self.log: SessionLog | None = None
        self._stored_after = 0.0  # `totals.seconds` when the KV cache was last stored
        self._lost: Exception | None = None  # why the last answer could not be shown to its end
        self._view = view
        self._ids = itertools.count(1)
        self._counted: tuple[Conversation, int] = (Conversation(), 0)
        if file:
            self.open(file)
        self.sampling |= {
            key: value for key, value in (sampling or {}).items() if value is not None
        }
        self.params()  # raises an error for a wrong setting before the first question
        if rounds and not llm.encoder.takes_tools:
            raise ModelError(f"{llm.name} has a chat template that does not support tools")
        if system is not None:
            self.tree = self.tree.with_system(system)

    # Questions and answers.

    def ask(self, text: str) -> Answer:
        """Answer a question, with the attachments before it.

        ContextOverflowError, with the numbers and the ways out, if the turn does not fit.
        """
        before = self.tree
        base = before.without_open_question()
        is_first = not base.conversation.messages
        message = question(text, self.attachments, is_first=is_first)
        documents = self.documents() if is_first else None
        tree = base.said(message)
        try:
            with self._kept(tree):
                if documents and (
                    stopped := read_documents(self.llm, documents, self._view, self.totals)
                ):
                    self.last = stopped
                    return stopped
                return self._turn(tree)
        finally:
            if self.tree is not before:
                self.attachments.clear()

    def regenerate(self) -> Answer:
        """Answer the last question again; the earlier answer stays in the tree.

        What is repeatable is computed as it was for the first answer, so that it is the same again:
        fewer tokens at once would be rounded in another way.
        """
        tree = self.tree.at_question()
        answers = (tree.node(id).message for id in tree.children(tree.head))
        first = next(answers, None) if self.params().is_repeatable else None
        return self._turn(tree, max_cached=first.num_cached if first else None)

    def edit(self, id: int, text: str) -> Answer | None:
        """Add another version of message `id`; the earlier version stays in the tree.

        A new question is answered at once, and the answer returned. A new answer takes the place of
        what the model said, and None is returned; `go_on` lets the model continue it.
        """
        node = self.tree.node(id)
        tree = self.tree.at(node.parent)
        if node.message.role == "assistant":
            self.become(tree.said(self.tokens.edited(node.message, text)))
            return None
        return self._turn(tree.said(node.message.saying(text)))

    def go_on(self) -> Answer:
        """Continue the last answer, which was stopped, cut off or edited.

        UsageError if the last answer is complete, or if there is none.
        """
        begun = self.conversation.last_answer
        if begun is None or not begun.is_open:
            raise UsageError("there is nothing to continue: the last answer is complete")
        ids = self.tokens.prompt_to_continue(self.conversation)
        (answer,) = self.generate(ids, lambda _: self._view(begun.content))
        if not answer.has_begun:
            return answer
        base = self.conversation.without_answer()
        own = (*ids[len(self.tokens.prompt(base)) :], *answer.token_ids)
        text = begun.content + answer.text
        longer = Message("assistant", text, own, answer.finish_reason)
        if self.tree.children(
            self.tree.head
        ):  # messages below belong to the shorter answer: leave it to them
            self.become(self.tree.at_question().said(longer))
        else:
            self.become(self.tree.replaced(self.tree.head, longer))
        return self._followed(answer)

    def alternatives(self, count: int, on_begin: Callable[[int], None]) -> list[int]:
        """Answer the last question `count` times; return the ids of the new messages.

        The answers are decoded at the same time, as far as the memory allows. `on_begin(n)` is
        called before answer n (from 0) is shown. The first answer becomes the head.
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

    def _turn(self, tree: Tree, max_cached: int | None = None) -> Answer:
        """Answer the last message of `tree`; return the last answer of the turn.

        max_cached: the most tokens of the prompt to take from the KV cache; None is no limit.

        `tree` and the answer become the chat's, unless the answer was stopped before its first
        token. A turn is one round, unless the answer calls tools: then rounds follow until an
        answer calls none.
        """
        with self._kept(tree):
            return self._followed(self._round(tree, max_cached))

    @contextmanager
    def _kept(self, tree: Tree) -> Iterator[None]:
        """Write a new question at the end of `tree` to the file before it is answered.

        A question that then gets no answer is taken back there, as it is in this chat, unless the
        process ends: the next chat with this session shows it, and /regen answers it.
        """
        before = self.tree
        if self.log and tree.newest not in before.nodes:
            with suppress(OutputError):  # writing the answer tries again
                self.log.write(tree, self._settings())
        try:
            yield
        except (L4Error, GivenUpError):
            if self.tree is before:
                with suppress(L4Error):
                    self._save()
            raise
        is_leaving = self.last is not None and self.last.exit_code in EXITS_THAT_LEAVE
        if self.tree is before and not is_leaving:
            self._save()

    def _followed(self, answer: Answer) -> Answer:
        """Run the tools that `answer` calls, if any; return the last answer that follows."""
        if self.rounds and answer.has_begun:
            answer = self.last = self.rounds.follow(answer, self.calls, self._answer_to)
        if self._lost:
            lost, self._lost = self._lost, None
            raise lost
        return answer

    def _round(self, tree: Tree, max_cached: int | None = None) -> Answer:
        """Answer the last message of `tree` once; calls in the answer do not run yet."""
        view = (lambda _: rounds.view(lambda: self._view(""))) if (rounds := self.rounds) else None
        prompt = self.tokens.prompt(tree.conversation)
        (answer,) = self.generate(prompt, view, max_cached=max_cached)
        if answer.has_begun:
            self.become(tree.said(_message(answer)))
        return answer

    def _answer_to(self, results: Sequence[str]) -> Answer:
        """Add the results of tool calls and return the model's answer to them."""
        self.become(self.tree.said(*(Message("ipython", text) for text in results)))
        return self._round(self.tree)

    def calls(self) -> Sequence[ToolCall]:
        """Return the tool calls of the last answer; none if that answer is incomplete."""
        answer = self.conversation.last_answer
        if self.rounds is None or answer is None or answer.is_partial:
            return ()
        names = self.rounds.toolbox.names
        if said := self.tokens.said(answer):
            return calls_in_channels(said, names)
        return calls_of(self.tokens.tagged_text(answer), names)

    def generate(
        self,
        prompt: Sequence[int],
        view: Callable[[int], AnswerView] | None = None,
        *,
        count: int = 1,
        at_once: int = 1,
        max_tokens: int | None = None,
        max_cached: int | None = None,
    ) -> list[Answer]:
        """Return `count` answers to a prompt, without adding them to the conversation.

        prompt: token ids.
        view: `view(n)` makes the view for answer n; None for the session's view, empty.
        at_once: how many answers run at the same time and share the rest of the context.
        max_tokens: the most tokens of an answer; None for the session's setting.
        max_cached: the most tokens of the prompt to take from the KV cache; None is no limit.

        ContextOverflowError if the prompt leaves no room for an answer.
        """
        params = self.params()
        params = replace(params, max_tokens=max_tokens or params.max_tokens)
        recall_prompt(self.llm, prompt)
        ids = [f"chat-{next(self._ids)}" for _ in range(count)]
        requests = requests_of(
            ids, prompt, params, n_ctx=self.n_ctx, at_once=at_once, max_cached=max_cached
        )
        self.llm.engine.retain(at_once)  # the user may continue any of them
        turn = generate(self.llm.engine, requests, view or (lambda _: self._view("")))
        self._lost = turn.lost
        self.totals.add(turn.answers)
        self.last = turn.answers[0]
        return turn.answers

    # The tree, and the context that it takes up.

    def become(self, tree: Tree) -> None:
        """Replace the current tree by `tree`, which was made from it; write the difference."""
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
        """How many tokens of the context the conversation takes up."""
        if self._counted[0] != self.conversation:
            self._counted = (self.conversation, self.tokens.count(self.conversation))
        return self._counted[1]

    @property
    def is_nearly_full(self) -> bool:
        return self.num_tokens >= NEARLY_FULL * self.n_ctx

    def undo(self) -> str:
        """Take back the last question and its answer; return the question's text."""
        question = self.tree.last_question()
        self.become(self.tree.at(question.parent))
        return question.message.content

    def clear(self) -> None:
        """Start an empty conversation; the old messages stay in the tree."""
        self.attachments.clear()
        self.become(self.tree.at(ROOT))

    def set_system(self, text: str | None) -> None:
        self.become(self.tree.with_system(text))

    # Files and settings.

    def attach(self, name: str, text: str, document: Document | None = None) -> Attachment:
        """Attach a text to the next question.

        Documents come first if that question is the first of the conversation. ContextOverflowError
        if the text does not fit the rest of the context.
        """
        attachment = Attachment(name, text, self.tokens.count_text(text), document)
        left = self.n_ctx - self.num_tokens - sum(a.num_tokens for a in self.attachments)
        if attachment.num_tokens >= left:
            raise ContextOverflowError(
                f"{name} has {attachment.num_tokens:,} tokens, {left:,} of {self.n_ctx:,} are "
                "free: /clear or /compact makes room, a larger --ctx gives more"
            )
        self.attachments.append(attachment)
        return attachment

    def documents(self) -> DocumentPrompt | None:
        """Return the attached documents as the beginning of a prompt, the same as in `l4 ask`.

        None if no documents are attached, or if the chat template changes messages.
        """
        attached = documents_of(self.attachments)
        if not attached:
            return None
        around: dict[str, Any] = {"system": self.tree.system, "tools": self.tokens.tools}
        try:
            return DocumentPrompt(self.llm.encoder, attached, **around)
        except RequestError:
            return None

    def reading_seconds(self, num_tokens: int) -> float | None:
        """Return the seconds that prefilling so many more tokens takes; None if unknown."""
        return self.pace.reading_seconds(num_tokens, self.num_tokens, self.totals)

    def params(self) -> SamplingParams:
        """Return the sampling parameters of the next answer."""
        return self.llm.params_of_answer(**self.sampling, constraint=self.constraint)

    def set(self, name: str, value: str) -> None:
        """Change a sampling setting; "default" resets it. UsageError for a wrong name or value."""
        sampling = changed(self.sampling, name, value)
        self.llm.params(**sampling)
        self.sampling = sampling
        self._save()

    # On disk.

    def save(self, path: Path) -> None:
        """Write the messages that lead to the head to a file (`export.py`)."""
        storage.save(self.conversation, path)

    def load(self, path: Path) -> None:
        """Load saved messages as a new branch and make its end the head."""
        loaded = storage.load(path)
        self.attachments.clear()
        self.losses = ()
        self.become(self.tree.at(ROOT).with_system(loaded.system).said(*loaded.messages))

    def open(self, file: SessionFile) -> None:
        """Switch to the session in `file`, and restore its KV cache if it is stored.

        `losses` then tells which parts of the file could not be read. InputError if the file is not
        a session; it is then closed, and the chat stays as it was.
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
        """The session file; None if this chat is not kept."""
        return self.log.file if self.log else None

    def close(self) -> None:
        """Store the KV cache of the session and close its file; idempotent."""
        self.pace.keep(self.totals)
        if self.log and self.log.file.exists:
            self._store_state()
            self.log.file.close()
        self.log = None

    def _save(self) -> None:
        if self.log:
            self.log.write(self.tree, self._settings())

    def _settings(self) -> dict[str, Any]:
        """The settings that the session file keeps."""
        return {key: value for key, value in self.sampling.items() if key in SETTINGS}

    def _store_state(self) -> None:
        """Store the KV cache of the conversation, as much of it as was computed."""
        self.llm.remember(self.tokens.of(self.conversation))
        self._stored_after = self.totals.seconds


def _message(answer: Answer) -> Message:
    return Message(
        "assistant",
        answer.text,
        tuple(answer.token_ids),
        answer.finish_reason,
        num_cached=answer.num_cached_tokens,
    )
