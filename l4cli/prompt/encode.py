"""Turns prompts into token ids; text can never become a control token.

A template writes `<|eot|>` as text, and a user, a document or a tool's result may contain the same
text. To tell them apart, the encoder breaks the text of control tokens inside messages with a guard
character before the template runs. Control-token text in the result is then the template's own, and
is mapped to its ids. Everything else is tokenized as plain text, without the guards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from l4cli.errors import RequestError
from l4cli.prompt.template import ChatTemplate, Message, llama4_template

# Private-use characters; the first one that the messages do not contain is the guard.
_GUARDS = [chr(code) for code in range(0xE000, 0xE010)]


# The texts that a template writes around contents, and a system prompt, repeat in every prompt.
_SHORT = 8192  # characters; the ids of longer texts are not kept
_NUM_KNOWN = 128  # texts whose ids are kept


class Vocabulary(Protocol):
    """The parts of a model that encoding needs."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def special_tokens(self) -> Mapping[str, int]: ...

    @property
    def bos_token(self) -> int | None: ...

    @property
    def eos_token(self) -> int | None: ...

    @property
    def adds_bos(self) -> bool: ...

    @property
    def chat_template(self) -> str | None: ...

    def tokenize(self, text: str, *, special: bool = False) -> list[int]: ...

    def token_text(self, token: int | None) -> str: ...


class PromptEncoder:
    """Turns texts and conversations into token ids for one vocabulary.

    It uses the model's own chat template. A Llama 4 vocabulary without one gets Llama 4's. Any
    other model without a template can only continue plain texts.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        # A guard cannot break a text of one character.
        self._special = {t: id for t, id in vocabulary.special_tokens.items() if len(t) > 1}
        longest_first = sorted(self._special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._known = lru_cache(_NUM_KNOWN)(self._ids)
        self.template = self._find_template()

    def text(self, text: str) -> list[int]:
        """Ids of a plain text to be continued, after a BOS if the vocabulary wants one."""
        return self._with_bos(self._vocabulary.tokenize(text))

    @property
    def template_digest(self) -> str:
        """A hash that identifies the chat template; "" without one."""
        if self.template is None:
            return ""
        return hashlib.sha256(self.template.source.encode()).hexdigest()[:16]

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Ids of a conversation, up to where the assistant's answer begins.

        A content may be a tuple of texts: the template gets them joined, and they are tokenized
        separately, so that each gives the same ids whatever follows it. Raises RequestError if the
        model has no chat template or the template refuses the messages.
        """
        sections = self._in_sections(messages, tools, add_generation_prompt)
        return [token for section in sections for token in section]

    def chat_in_sections(
        self,
        sections: Sequence[str],
        *,
        system: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[list[int]]:
        """Ids of a conversation with one user message, in a list for each of its `sections`.

        The template's own text before the message belongs to the first list, that after it to the
        last. RequestError as for `chat`, or if the template does not show the message exactly once
        and unchanged.
        """
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": tuple(sections)})
        if self.template is None:
            raise RequestError(
                "this model has no chat template: questions about documents need one"
            )
        found = self._in_sections(messages, tools, True)
        if len(found) != len(sections):
            raise RequestError(
                "the model's chat template changes messages: it does not work with documents"
            )
        return found

    def _in_sections(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] | None,
        add_generation_prompt: bool,
    ) -> list[list[int]]:
        """Ids of a conversation, with a cut between the texts of a tuple content."""
        if self.template is None:
            raise RequestError(
                "this model has no chat template: give a plain prompt to continue instead"
            )
        cut = guard = _unused_guard([messages, tools])
        whole = [_joined(message, cut) for message in messages]
        if any(isinstance(message.get("content"), tuple) for message in messages):
            guard = _unused_guard([whole, tools])  # differs from `cut` if a text is cut
        rendered = self.template.render(
            self._guarded(whole, guard),
            tools=self._guarded(tools, guard),
            add_generation_prompt=add_generation_prompt,
        )
        texts = [rendered] if guard == cut else rendered.split(cut)
        first, *rest = (self._encode(text, guard) for text in texts)
        return [self._with_bos(first), *rest]

    def _find_template(self) -> ChatTemplate | None:
        vocabulary = self._vocabulary
        source = vocabulary.chat_template
        if not source and {"<|header_start|>", "<|eot|>"} <= self._special.keys():
            source = llama4_template()
        if not source:
            return None
        return ChatTemplate(
            source,
            bos_token=vocabulary.token_text(vocabulary.bos_token),
            eos_token=vocabulary.token_text(vocabulary.eos_token),
        )

    def _guarded(self, value: Any, guard: str) -> Any:
        """The same value with the text of every control token broken by a guard."""
        if isinstance(value, str):
            return self._pattern.sub(lambda match: match[0][0] + guard + match[0][1:], value)
        if isinstance(value, Mapping):
            return {key: self._guarded(item, guard) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self._guarded(item, guard) for item in value]
        return value

    def _encode(self, rendered: str, guard: str) -> list[int]:
        tokens: list[int] = []
        at = 0
        for match in self._pattern.finditer(rendered):
            tokens += self._plain(rendered[at : match.start()], guard)
            tokens.append(self._special[match[0]])
            at = match.end()
        return tokens + self._plain(rendered[at:], guard)

    def _plain(self, text: str, guard: str) -> list[int]:
        text = text.replace(guard, "")
        return [*self._known(text)] if len(text) <= _SHORT else self._vocabulary.tokenize(text)

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._vocabulary.tokenize(text)) if text else ()

    def _with_bos(self, tokens: list[int]) -> list[int]:
        """The ids with a BOS in front if the model wants one; the template may have written it."""
        bos = self._vocabulary.bos_token
        if bos is None or not self._vocabulary.adds_bos or tokens[:1] == [bos]:
            return tokens
        return [bos, *tokens]


def _joined(message: Message, cut: str) -> Message:
    """The message with a tuple content joined by `cut`."""
    content = message.get("content")
    return {**message, "content": cut.join(content)} if isinstance(content, tuple) else message


def _unused_guard(value: Any) -> str:
    taken = set(_characters(value))
    for guard in _GUARDS:
        if guard not in taken:
            return guard
    raise RequestError("the messages use every private-use character from U+E000 to U+E00F")


def _characters(value: Any) -> set[str]:
    if isinstance(value, str):
        return set() if value.isascii() else {guard for guard in _GUARDS if guard in value}
    if isinstance(value, Mapping):
        return set().union(*map(_characters, [*value.keys(), *value.values()]))
    if isinstance(value, Sequence):
        return set().union(*map(_characters, value))
    return set()
