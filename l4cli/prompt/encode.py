"""Turns prompts into token ids; text can never become a control token.

A template writes `<|eot|>` as text, and a user, a document or a tool's result may contain the same
text. The rendered prompt knows which characters the template wrote itself (`traced.py`). Where all
characters of a control token are the template's, they become its id. Everything else is tokenized
as plain text, wherever it came from and whatever the template did with it.

Vocabularies also have user-defined tokens, which llama.cpp finds in any text: `<tool_call>`, but
also `<table>` or four spaces. Those that structure a conversation are markers, and treated like
control tokens; but an answer in the conversation keeps them, since the model wrote them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Protocol

from l4cli.engine.channels import CHANNEL, END, MESSAGE, START, Channels
from l4cli.engine.thoughts import THINK, Thoughts, tags_begun, tags_in
from l4cli.engine.types import Constraint, Thinking
from l4cli.errors import RequestError
from l4cli.prompt.abilities import Abilities
from l4cli.prompt.call_grammar import call_constraint
from l4cli.prompt.messages import fitted
from l4cli.prompt.template import ChatTemplate, Message, llama4_template
from l4cli.prompt.traced import Traced, plain, spans_of

# Private-use characters; the first one that the messages do not contain marks the cuts.
_CUTS = [chr(code) for code in range(0xE000, 0xE010)]
# Markers by their looks. The tags of HTML, which are user-defined tokens of Gemma, are other words.
_MARKER = re.compile(
    r"</?(think|thinking|thought|answer|tool|tools)>|[<\[]/?(?=\S*[_|｜▁A-Z])[^\s<>\[\]]+[>\]]"
)
_MARKED = Thoughts(THINK, is_begun=False)
# A template may make a control token of a role: "<|" + message.role + "|>".
_ROLES = frozenset({"system", "user", "assistant", "tool"})
# Other roles that a template names, by == or in a list.
_QUOTED = re.compile(r"""role\W{1,6}==\s*(["'])([a-z_]+)\1""")
_LISTED = re.compile(r"""role\W{1,6}(?:not )?in\s*[\[(]([^\])]*)[\])]""")
# What templates call their switch for thinking: Qwen, GLM and SmolLM; DeepSeek and Granite.
_SWITCHES = ("enable_thinking", "thinking")
# How hard to think: gpt-oss and others. Some templates know other words, too, and name them.
_EFFORT = "reasoning_effort"
_EFFORTS = frozenset({"low", "medium", "high"})
_RESULT = "ipython"  # Llama's name for "tool", which some templates write as it is given

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

    thinks: what the template is told about thinking, if it has a switch for that: whether to, or
        how hard; None for nothing.
    """

    def __init__(self, vocabulary: Vocabulary, *, thinks: bool | str | None = None) -> None:
        self._vocabulary, self._thinks = vocabulary, thinks
        self._told = lru_cache(None)(lambda thinks: PromptEncoder(vocabulary, thinks=thinks))
        self._takes = lru_cache(_NUM_KNOWN)(self._tries)
        # A template's text is full of single characters.
        self._special = {t: id for t, id in vocabulary.special_tokens.items() if len(t) > 1}
        self.template = self._find_template()
        self._tool_template = self._find_tool_template()
        self._abilities = lru_cache(None)(Abilities)
        markers = self._find_markers()
        self._marker, self._has_markers = _any_of(markers), bool(markers)
        self._own = self._special | markers
        self._pattern = _any_of(self._own)
        self._named_roles = _named_roles(self.template.source if self.template else "")
        self._known = lru_cache(_NUM_KNOWN)(self._ids)

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
        cut = ""
        if any(isinstance(message.get("content"), tuple) for message in messages):
            cut = _unused_character([messages, tools])
        rendered = self.render(
            [_joined(message, cut) for message in messages],
            tools=tools,
            add_generation_prompt=add_generation_prompt,
        )
        first, *rest = map(self._encode, rendered.split(cut) if cut else [rendered])
        return [self._with_bos(first), *rest]

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The prompt as the template writes it, given the messages in the form that it wants.

        RequestError as for `chat`, and if there are tools and the template takes none.
        """
        if self.template is None:
            raise RequestError(
                "this model has no chat template: give a plain prompt to continue instead"
            )
        template = self._tool_template if tools and self._tool_template else self.template
        abilities = self._abilities(template)
        if tools and not abilities.takes_tools:
            raise RequestError(
                "the model's chat template takes no tools: leave them out, or use another model"
            )
        return template.render(
            [self._traced(message) for message in fitted(messages, abilities)],
            tools=tools,
            add_generation_prompt=add_generation_prompt,
        )

    def check_roles(self, messages: Sequence[Message]) -> None:
        """Raise RequestError for a role that the template does not know by name.

        Many templates write any role as it is given, or leave its message out. The model has never
        seen such a role, and its answer would not show that.
        """
        if self.template is None:
            return  # which `chat` says
        known = {*_ROLES, _RESULT, *self._named_roles}
        for number, message in enumerate(messages):
            if (role := message.get("role")) not in known:
                raise RequestError(
                    f"messages[{number}] has the role {role!r}, which the model's chat template "
                    f"does not know; known: {', '.join(sorted(known - {_RESULT}))}"
                )

    @property
    def takes_tools(self) -> bool:
        """Whether the template can tell the model of tools."""
        template = self._tool_template or self.template
        return template is not None and self._abilities(template).takes_tools

    def must_call(self, tools: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Constraint:
        """Answers that call one or more of the functions with these names."""
        template = self._tool_template or self.template
        source = template.source if template else ""
        tags = self._channels.ids if self._channels else {}
        return call_constraint(tools, names, source, {**self._vocabulary.special_tokens, **tags})

    def takes_effort(self, effort: str) -> bool:
        """Whether the template can tell the model to think so hard; "none" is not to think."""
        return self._takes(effort)

    def _tries(self, effort: str) -> bool:
        source = self.template.source if self.template else ""
        if not re.search(rf"\b{_EFFORT}\b", source):
            return False
        if effort not in _EFFORTS and not _names(source, effort):
            return False
        try:
            self.told(thinks=effort).render([{"role": "user", "content": "?"}])
        except RequestError:
            return False
        return True

    def told(self, *, thinks: bool | str) -> PromptEncoder:
        """The encoder whose template is told that the model should think first, how hard, or not.

        Its `thinking` says what came of it: many templates have no switch for that.
        """
        encoder: PromptEncoder = self._told(thinks)
        return encoder

    @property
    def thinking(self) -> Thinking:
        """Whether the model thinks first: it must if the template begins a thought for it."""
        if self._channels:
            return "channels"
        if self.thoughts is None:
            return "no"
        return "must" if self.thoughts.is_begun else "may"

    @cached_property
    def thoughts(self) -> Thoughts | None:
        """How the model's thoughts are marked; None if it has none, or has channels for them."""
        if self.template is None or self._channels:
            return None
        try:
            prompt = self.render([{"role": "user", "content": "?"}]).rstrip()
        except RequestError:
            return None
        if begun := tags_begun(prompt):
            return Thoughts(begun, is_begun=True)
        tags = tags_in(self.template.source)
        return Thoughts(tags, is_begun=False) if tags and not prompt.endswith(tags.end) else None

    def begun(self, text: str) -> list[int]:
        """Ids of an answer that begins with this text, after the prompt that asks for it."""
        if not self._channels:
            return self._begun_thought(text) or self._vocabulary.tokenize(text)
        tags, (thought, said) = self._channels.ids, _MARKED.parts(text)
        ids = [tags[CHANNEL], *self._plain("final"), tags[MESSAGE], *self._plain(said)]
        if thought:
            before = [tags[CHANNEL], *self._plain("analysis"), tags[MESSAGE], *self._plain(thought)]
            ids = [*before, tags[END], tags[START], *self._plain("assistant"), *ids]
        return ids

    def _begun_thought(self, text: str) -> list[int]:
        """Ids of an answer that begins with a thought between control tokens; none for others."""
        if self.thoughts is None:
            return []
        begin, end = map(self._special.get, self.thoughts.tags)
        thought, said = self.thoughts.parts(text)
        if begin is None or end is None or not (thought or said != text):
            return []
        opening = [] if self.thoughts.is_begun else [begin]
        closing = [] if self.thoughts.is_open(text) else [end]
        return [*opening, *self._plain(thought), *closing, *self._plain(said)]

    @cached_property
    def _channels(self) -> Channels | None:
        """The tags of answers in channels, if the template and the vocabulary have them."""
        if self.template is None or CHANNEL not in self.template.source:
            return None
        return Channels.of({**self._user_defined, **self._vocabulary.special_tokens})

    @property
    def _user_defined(self) -> Mapping[str, int]:
        found: Mapping[str, int] = getattr(self._vocabulary, "user_defined_tokens", {})
        return found

    def _traced(self, message: Message) -> Message:
        """The message, with what may be the template's own marked as such: a role, markers."""
        changed = dict(message)
        role = message.get("role")
        if isinstance(role, str) and (role in _ROLES or role in self._named_roles):
            changed["role"] = Traced(role)
        if message.get("role") == "assistant" and isinstance(message.get("content"), str):
            found = tuple(match.span() for match in self._marker.finditer(message["content"]))
            if found:
                changed["content"] = Traced(message["content"], found)
        return changed

    def _find_template(self) -> ChatTemplate | None:
        vocabulary = self._vocabulary
        source = vocabulary.chat_template
        if not source and {"<|header_start|>", "<|eot|>"} <= self._special.keys():
            source = llama4_template()
        if not source:
            return None
        return self._compiled(source)

    def _find_tool_template(self) -> ChatTemplate | None:
        """A template of its own for conversations with tools, as some files carry it."""
        metadata = getattr(self._vocabulary, "metadata", None)
        source = metadata("tokenizer.chat_template.tool_use") if metadata else None
        return self._compiled(source) if source else None

    def _compiled(self, source: str) -> ChatTemplate:
        vocabulary = self._vocabulary
        return ChatTemplate(
            source,
            bos_token=vocabulary.token_text(vocabulary.bos_token),
            eos_token=vocabulary.token_text(vocabulary.eos_token),
            switches=_switches(source, self._thinks),
        )

    def _find_markers(self) -> dict[str, int]:
        """The user-defined tokens that structure conversations."""
        tokens = self._user_defined
        sources = [t.source for t in (self.template, self._tool_template) if t]
        return {
            text: id
            for text, id in tokens.items()
            if len(text) > 1
            and text.strip()
            and (_MARKER.fullmatch(text) or any(text in source for source in sources))
        }

    def _encode(self, rendered: str) -> list[int]:
        text, tokens, at = plain(rendered), list[int](), 0
        for start, stop in spans_of(rendered):
            for match in self._pattern.finditer(text, start, stop):
                tokens += self._plain(text[at : match.start()])
                tokens.append(self._own[match[0]])
                at = match.end()
        return tokens + self._plain(text[at:])

    def _plain(self, text: str) -> list[int]:
        return [*self._known(text)] if len(text) <= _SHORT else list(self._ids(text))

    def _ids(self, text: str) -> Sequence[int]:
        """Ids of a text in which nothing is a control token or a marker."""
        tokens, at = list[int](), 0
        if not self._has_markers:
            return self._vocabulary.tokenize(text) if text else []
        while match := self._marker.search(text, at):
            tokens += self._tokenize(text[at : match.start() + 1], is_first=not at)
            at = match.start() + 1  # the marker is broken after its first character
        if at < len(text):
            tokens += self._tokenize(text[at:], is_first=not at)
        return tokens

    def _tokenize(self, text: str, *, is_first: bool) -> list[int]:
        if is_first:
            return self._vocabulary.tokenize(text)
        # Some vocabularies put a space before every text. None of them joins one to a line break.
        line_break = self._vocabulary.tokenize("\n")
        tokens = self._vocabulary.tokenize("\n" + text)
        if tokens[: len(line_break)] == line_break:
            return tokens[len(line_break) :]
        return self._vocabulary.tokenize(text)

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


def _named_roles(source: str) -> set[str]:
    """The roles that a template's source compares messages' roles with."""
    listed = " ".join(_LISTED.findall(source))
    return {word for _, word in _QUOTED.findall(source)} | set(re.findall(r"[a-z_]+", listed))


def _switches(source: str, thinks: bool | str | None) -> dict[str, bool | str]:
    """The variables that tell a template what is wanted of thinking."""
    if thinks is None:
        return {}
    if isinstance(thinks, str):
        return {**dict.fromkeys(_SWITCHES, thinks != "none"), _EFFORT: thinks}
    effort = {} if thinks or not _names(source, "none") else {_EFFORT: "none"}
    return {**dict.fromkeys(_SWITCHES, thinks), **effort}


def _names(source: str, word: str) -> bool:
    """Whether a template has this word in quotes."""
    return f"'{word}'" in source or f'"{word}"' in source


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the texts, the longest one where several begin."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _unused_character(value: Any) -> str:
    taken: set[str] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            taken |= set() if item.isascii() else {cut for cut in _CUTS if cut in item}
        elif isinstance(item, Mapping):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, Sequence):
            waiting += item
    for cut in _CUTS:
        if cut not in taken:
            return cut
    raise RequestError("the messages use every private-use character from U+E000 to U+E00F")
