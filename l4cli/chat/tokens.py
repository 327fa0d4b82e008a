"""Encodes conversations as token ids, so that generated tokens are never computed again.

The same text can be split into tokens in more than one way, and a model does not always generate
the tokens that the tokenizer would choose. If an answer were tokenized again for the next turn, the
KV cache would often match only up to the first difference. So the prompt contains each answer's
generated ids, wherever their text is exactly the text that the template wrote for the answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from l4cli.chat.history.conversation import Conversation, Message
from l4cli.engine.channels import ChannelReader, Said
from l4cli.engine.thoughts import THINK, Thoughts
from l4cli.errors import RequestError
from l4cli.loading.llm import LLM
from l4cli.prompt.call_tags import tagged_text
from l4cli.prompt.messages import with_thought_apart
from l4cli.prompt.tool_calls import parse_tool_calls


class ConversationTokens:
    """Encodes the conversations of one model; `tools` are the schemas that the prompt lists."""

    def __init__(self, llm: LLM, tools: Sequence[Mapping[str, Any]] | None = None) -> None:
        self._chat = functools.partial(llm.encoder.chat, tools=tools)
        self.tools = tools
        self._special_tokens = llm.vocabulary.special_tokens
        self._begun, self._thoughts = llm.encoder.begun, llm.encoder.thoughts
        self._tokenize: Callable[[str], list[int]] = llm.vocabulary.tokenize
        self._piece, self._channels = llm.engine.backend.piece, llm.engine.backend.channels
        self._control = frozenset(llm.vocabulary.special_tokens.values())
        self._n_vocab = llm.vocabulary.n_vocab

    def prompt(self, conversation: Conversation) -> list[int]:
        """Return the ids up to the next answer; RequestError if the template refuses it."""
        return self._encode(conversation, add_generation_prompt=True)

    def prompt_to_continue(self, conversation: Conversation) -> list[int]:
        """Return the ids up to the last token of the answer that the conversation ends with."""
        answer = conversation.messages[-1]
        own = answer.token_ids or self._begun(answer.content)
        return [*self.prompt(conversation.without_answer()), *own]

    def of(self, conversation: Conversation) -> list[int]:
        """Return the ids of the whole conversation; RequestError if the template refuses it."""
        return self._encode(conversation, add_generation_prompt=False)

    def count(self, conversation: Conversation) -> int:
        """Return how many tokens a conversation takes up; 0 for an empty one."""
        if not conversation.messages and not conversation.system and not self.tools:
            return 0
        try:
            return len(self.of(conversation))
        except RequestError:  # some templates refuse a system message without a question
            return self.count_text(conversation.system or "")

    def count_text(self, text: str) -> int:
        """Return the number of tokens of a text by itself."""
        return len(self._tokenize(text))

    def count_message(self, message: Message) -> int:
        """Return the number of tokens of a message's content, as generated if it has token ids."""
        return len(message.token_ids) or self.count_text(message.content)

    def tagged_text(self, answer: Message) -> str:
        """Return an answer's text with the tags around its calls (see `calls.tagged_text`)."""
        if not answer.token_ids or self._channels:  # whose answers are written with such tags
            return answer.content
        return tagged_text(answer.token_ids, self._piece, self._special_tokens)

    def said(self, answer: Message) -> Said | None:
        """What an answer has in each of its channels; None if it has none, or unknown tokens."""
        if not self._channels or not answer.token_ids:
            return None
        header, lead = self._generation_prompt
        reader = ChannelReader(self._channels, self._piece, [*header, *lead])
        for token in answer.token_ids:
            reader.feed(token)
        return reader.said

    def edited(self, message: Message, content: str) -> Message:
        """Return an answer with another text.

        Up to the first difference it keeps the tokens that were generated; the rest of the new text
        is tokenized. An answer in channels keeps none: its tokens do not stand for its text alone.
        """
        if self._channels:
            return Message("assistant", content, is_edited=True)
        data = content.encode("utf-8")
        # Places where a kept token ends and no character is cut in two, and the tokens up to there.
        ends = [0]
        count = [0]
        at = 0
        for number, token in enumerate(message.token_ids, 1):
            piece = self._piece(token)
            if not data.startswith(piece, at):
                break
            at += len(piece)
            if at == len(data) or data[at] & 0xC0 != 0x80:
                ends.append(at)
                count.append(number)
        if ends[-1] < len(data) and len(ends) > 1:
            del ends[-1], count[-1]  # the last token might become another one with what follows
        rest = self._tokenize(data[ends[-1] :].decode("utf-8"))
        ids = (*message.token_ids[: count[-1]], *rest)
        own = ids if self.text(ids) == content else ()
        return Message("assistant", content, own, is_edited=True)

    def is_text(self, token: int) -> bool:
        """Whether a token can be part of a text: in the vocabulary, and not a control token."""
        return 0 <= token < self._n_vocab and token not in self._control

    def text(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, as the engine's detokenizer would show it."""
        return b"".join(map(self._piece, ids)).decode("utf-8", errors="replace")

    def _encode(self, conversation: Conversation, *, add_generation_prompt: bool) -> list[int]:
        conversation = self._with_ended_thoughts(conversation)
        messages = self._dicts(conversation.as_dicts(in_sections=True))
        try:
            ids = self._chat(messages, add_generation_prompt=add_generation_prompt)
        except RequestError:
            if not self.tools:
                raise
            # Some templates take results only after a message with calls, and not after their text.
            messages = self._with_calls(conversation, messages)
            ids = self._chat(messages, add_generation_prompt=add_generation_prompt)
        answers = [m for m in conversation.messages if m.role == "assistant"]
        if not any(answer.token_ids for answer in answers):
            return ids
        header, lead = self._generation_prompt
        starts = _occurrences(ids, header)
        if len(starts) != len(answers) + add_generation_prompt:
            return ids
        places = list(zip(starts, answers, strict=False))
        for start, answer in reversed(places):  # last to first: the earlier starts stay valid
            self._put_back(ids, start + len(header), lead, answer)
        return ids

    def _with_calls(
        self, conversation: Conversation, messages: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """The messages, with calls in the place of their text in each answer that has results."""
        names = [tool["function"]["name"] for tool in self.tools or ()]
        said = [*conversation.messages]
        changed = list(messages)
        offset = len(messages) - len(said)  # of a system message
        for number, (answer, result) in enumerate(pairwise(said)):
            if answer.role == "assistant" and result.role == "ipython" and not answer.tool_calls:
                content, calls = parse_tool_calls(self.tagged_text(answer), names)
                with_calls = replace(answer, content=content, tool_calls=calls, cuts=())
                changed[number + offset] = with_calls.as_dict()
        return self._dicts(changed)

    def _with_ended_thoughts(self, conversation: Conversation) -> Conversation:
        """The conversation in which thoughts that were stopped end, so that a template cuts them.

        Without an end, it would take them for answers. That of the last answer may go on.
        """
        if self._thoughts is None:
            return conversation
        *earlier, last = conversation.messages or (None,)
        if last is None:
            return conversation
        ended = [self._with_ended_thought(message, self._thoughts) for message in earlier]
        return replace(conversation, messages=(*ended, last))

    def _with_ended_thought(self, message: Message, thoughts: Thoughts) -> Message:
        text = message.content
        marked = thoughts if message.is_partial else thoughts._replace(is_begun=False)
        if message.role != "assistant" or not marked.is_open(text):
            return message
        return replace(message, content=f"{text.rstrip()}\n</think>\n\n", token_ids=())

    def _dicts(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages as the template wants them: some want what was thought by itself."""
        thoughts = Thoughts(THINK, is_begun=False) if self._channels else self._thoughts
        if thoughts is None or (thoughts.tags == THINK and not self._channels):
            return list(messages)
        return [dict(with_thought_apart(message, thoughts)) for message in messages]

    def _put_back(self, ids: list[int], begin: int, lead: list[int], answer: Message) -> None:
        """Replace the template's tokens of one answer by the generated ones, if the text is equal.

        begin: where the answer begins in `ids`, after the header.
        lead: the tokens that the generation prompt has after its last control token.
        """
        end = next((i for i in range(begin, len(ids)) if ids[i] in self._control), len(ids))
        own = [*lead, *answer.token_ids]
        if answer.token_ids and self.text(own) == self.text(ids[begin:end]):
            ids[begin:end] = own

    @functools.cached_property
    def _generation_prompt(self) -> tuple[list[int], list[int]]:
        """The generation prompt in two parts: up to its last control token, and the rest.

        Text is never tokenized into control tokens, so an answer begins wherever the first part
        occurs. Both are empty for templates that mark answers in another way.
        """
        question = [{"role": "user", "content": "?"}]
        asked = self._chat(question, add_generation_prompt=False)
        ready = self._chat(question, add_generation_prompt=True)
        added = ready[len(asked) :] if ready[: len(asked)] == asked else []
        last = max((i for i, token in enumerate(added) if token in self._control), default=-1)
        return added[: last + 1], added[last + 1 :]


def _occurrences(ids: Sequence[int], part: Sequence[int]) -> list[int]:
    """Return the positions where `part` begins in `ids`; none if `part` is empty."""
    if not part:
        return []
    size, first, wanted = len(part), part[0], list(part)
    return [
        i for i, token in enumerate(ids) if token == first and list(ids[i : i + size]) == wanted
    ]
