"""Reads answers in harmony, the format of gpt-oss: messages in channels, between control tokens.

    <|channel|>analysis<|message|>What was thought.<|end|>
    <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>
    <|start|>assistant<|channel|>final<|message|>The answer.<|return|>

While such an answer is generated, it is written as other families write theirs, which all of l4 can
read: what was thought stands in `<think>`, a call in `<tool_call>`. The tags are told by their ids,
so a text that quotes them is only a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

START, CHANNEL, MESSAGE, END = "<|start|>", "<|channel|>", "<|message|>", "<|end|>"
CONSTRAIN, CALL, RETURN = "<|constrain|>", "<|call|>", "<|return|>"
_TAGS = (START, CHANNEL, MESSAGE, END, CONSTRAIN, CALL, RETURN)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")
_BETWEEN = {"text": "\n\n", "thought": "", "call": "\n"}  # what a message has after it

Piece = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Said:
    """What an answer has in each kind of channel; a call is a name and its arguments as written."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()

    @property
    def written(self) -> str:
        """The text, and the calls as other families write them."""
        return "\n".join(filter(None, [self.text, *(_written(*call) for call in self.calls)]))

    def before(self, stop: Sequence[str]) -> Said:
        """The same with a text that ends before any of these strings."""
        cuts = [at for string in stop if (at := self.text.find(string)) >= 0]
        return replace(self, text=self.text[: min(cuts)]) if cuts else self


@dataclass(frozen=True, slots=True)
class Channels:
    """The tags of harmony in one vocabulary, by their ids."""

    tags: Mapping[int, str]

    @classmethod
    def of(cls, tokens: Mapping[str, int]) -> Channels | None:
        """Find them among the tokens that no text becomes; None if the vocabulary lacks one.

        llama.cpp makes user-defined tokens of some of them, and leaves the others control tokens.
        """
        if not all(tag in tokens for tag in _TAGS):
            return None
        return cls({tokens[tag]: tag for tag in _TAGS})

    @property
    def ids(self) -> dict[str, int]:
        """The id of each tag."""
        return {tag: id for id, tag in self.tags.items()}


@dataclass(slots=True)
class _Message:
    kind: Literal["text", "thought", "call"] = "text"
    name: str = ""
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", errors="replace")


class ChannelReader:
    """Reads one answer, token by token.

    prompt: what the answer continues. It may end within a header, as templates let it, or within a
        message. If it has no messages at all, the answer is an ordinary text.
    """

    def __init__(self, channels: Channels, piece: Piece, prompt: Sequence[int] = ()) -> None:
        self._tags, self._piece = channels.tags, piece
        self._messages = [_Message()]
        self._header: bytes | None = None  # None: within the last message
        self._may_be_text = False  # whether the header may turn out to be none
        starts = (at for at in reversed(range(len(prompt))) if self._tags.get(prompt[at]) == START)
        if (begin := next(starts, None)) is not None:
            for token in prompt[begin:]:
                self.feed(token)
            self._messages = [replace(message, body=b"") for message in self._messages[-1:]]
            self._may_be_text = self._header is not None
        self._num_given = len(self._header or b"")  # bytes of the header that the prompt has

    def feed(self, token: int) -> bytes:
        """Add a token; return the bytes that it adds to the answer as other families write it."""
        tag = self._tags.get(token)
        if tag is not None:
            return self._take(tag)
        piece = self._piece(token)
        if self._header is None:
            self._messages[-1].body += piece
            return piece
        self._header += piece
        return b""

    def finish(self, *, is_whole: bool) -> bytes:
        """The bytes that end the answer. What stands outside of all messages is a text.

        is_whole: whether the answer ended by itself.
        """
        if self._header is None:
            return self._close() if is_whole else b""
        loose = self._header[self._num_given :]
        if not self._may_be_text or not loose.strip():
            return b""
        self._header = None
        return self._open(_Message(body=loose)) + loose

    @property
    def said(self) -> Said:
        """What the answer has said so far."""
        texts = [message.text for message in self._messages if message.kind == "text"]
        thoughts = [message.text for message in self._messages if message.kind == "thought"]
        calls = [(call.name, call.text) for call in self._messages if call.kind == "call"]
        return Said("\n\n".join(filter(None, texts)), "\n\n".join(thoughts), tuple(calls))

    def _take(self, tag: str) -> bytes:
        if self._header is None:
            if tag in (MESSAGE, CONSTRAIN):  # out of place
                return b""
            closing = self._close()
            self._begin_header(tag)
            return closing
        if tag == MESSAGE:
            header, self._header = self._header.decode("utf-8", errors="replace"), None
            return self._open(_message(header))
        if tag in (CHANNEL, CONSTRAIN):
            self._header += tag.encode()
            self._may_be_text = False
        else:
            self._begin_header(tag)
        return b""

    def _begin_header(self, tag: str) -> None:
        self._header = tag.encode() if tag == CHANNEL else b""
        self._num_given = 0
        self._may_be_text = tag not in (START, CHANNEL)

    def _open(self, message: _Message) -> bytes:
        before = self._messages[-1] if self._messages else None
        self._messages.append(message)
        between = _BETWEEN[before.kind] if before and before.body else ""
        if message.kind == "text":
            return between.encode()
        begin = "<think>\n" if message.kind == "thought" else f"<tool_call>\n{_head(message.name)}"
        return f"{between}{begin}".encode()

    def _close(self) -> bytes:
        return {"text": b"", "thought": b"\n</think>\n\n", "call": b"}\n</tool_call>"}[
            self._messages[-1].kind
        ]


def _written(name: str, arguments: str) -> str:
    begun = f"<tool_call>\n{_head(name)}{arguments}"
    try:
        json.loads(arguments)
    except ValueError:  # cut off
        return begun
    return f"{begun}}}\n</tool_call>"


def _head(name: str) -> str:
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '


def _message(header: str) -> _Message:
    """The message that follows a header."""
    if found := _RECIPIENT.search(header):
        return _Message("call", found[1])
    channel = _CHANNEL.search(header)
    return _Message("thought" if channel and channel[1] == "analysis" else "text")
