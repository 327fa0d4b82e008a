"""A running chat: its questions, and the answers to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from l4cli.chat.attachments import question
from l4cli.chat.history.conversation import Message
from l4cli.chat.history.tree import Tree
from l4cli.chat.state import ChatState
from l4cli.chat.tools.calls import calls_of
from l4cli.chat.turn import AnswerView
from l4cli.engine.answer import Answer
from l4cli.errors import (
    EXITS_THAT_LEAVE,
    L4Error,
    OutputError,
    UsageError,
)
from l4cli.prompt.tool_calls import ToolCall, calls_in_channels
from l4cli.signals import GivenUpError


class ChatSession(ChatState):
    """A chat that asks its model.

    If a method raises an error, the conversation is as it was before, with two exceptions. After an
    OutputError the change was made, but not written to the file. Tool calls that have already run
    stay in the conversation with their results.
    """

    _lost: Exception | None = None  # why the last answer could not be shown to its end

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
                if documents and (stopped := self.model.read(documents, self._view)):
                    return stopped
                return self._turn(tree)
        finally:
            if self.tree is not before:
                self.attachments.clear()

    def regenerate(self) -> Answer:
        """Answer the last question again; the earlier answer stays in the tree.

        An answer that is the same as an earlier one is not added: the head is then that one.

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
            answer = self.model.last = self.rounds.follow(answer, self.calls, self._answer_to)
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
            message = _message(answer)
            earlier = tree.same_version(message)
            self.become(tree.said(message) if earlier is None else tree.at(earlier))
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
        turn = self.model.generate(
            prompt,
            params,
            view or (lambda _: self._view("")),
            count=count,
            at_once=at_once,
            max_cached=max_cached,
        )
        self._lost = turn.lost
        return turn.answers


def _message(answer: Answer) -> Message:
    return Message(
        "assistant",
        answer.text,
        tuple(answer.token_ids),
        answer.finish_reason,
        num_cached=answer.num_cached_tokens,
    )
