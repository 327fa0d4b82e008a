"""Finds calls in tags within an answer (`call_tags.py`), and what is only a quotation of tags.

An argument may quote the tag that ends a call, so every place where a call may end is tried, the
nearest first. What begins like a call and is none makes the whole answer a text: rather no call
than half of what was meant. Prose that only names a tag is passed over, and so is code that quotes
a call: in backticks, or in a fence with a text behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from l4cli.prompt.call_tags import BEGIN, ENDS, LIKE_A_CALL
from l4cli.prompt.written_calls import UNREADABLE, Texts, ToolCall, calls_of, in_tags

_MOST_TRIED = 32  # times the length of the answer, and so many characters:
_ALWAYS_TRIED = 1 << 20
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_FENCE_BEGINS = re.compile(r"```(?:json|tool_call|tool_calls|tool_code|python)?[ \t]*\n")
_FENCE_ENDS = re.compile(r"\n?```")

Read = Callable[[str], list[ToolCall]]


class Block(NamedTuple):
    """Calls, and where they stand in the answer with their tags."""

    start: int
    end: int
    calls: Sequence[ToolCall]


class Trials:
    """Tries where a call ends, as long as that does not take too much work for the answer."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._left = _MOST_TRIED * len(text) + _ALWAYS_TRIED

    def calls(self, start: int, ends: Iterator[tuple[int, int]], read: Read) -> Block | None:
        """What begins at `start`, up to the first end at which it can be read. None if at none.

        ends: where what is in the tags ends, and where the tag behind it does.
        """
        for inner_end, end in ends:
            self._left -= inner_end - start
            if self._left < 0:
                raise ValueError("too many places where a call may end")
            try:
                return Block(start, end, read(self._text[start:inner_end]))
            except UNREADABLE:
                continue
        return None


def blocks(text: str, texts: Texts) -> list[Block]:
    """The calls in tags; ValueError if anything that begins like one cannot be read."""
    found, at, trials = list[Block](), 0, Trials(text)
    while begin := BEGIN.search(text, at):
        kind, at = begin.lastgroup or "", begin.end()
        if not LIKE_A_CALL[kind].match(text, at):
            continue
        read = in_tags(kind, begin["name"], texts)
        block = trials.calls(at, _ends(kind, text, at), read)
        is_code = _is_code(text, begin.start(), block.end if block else at)
        if block and not is_code:
            found.append(block._replace(start=begin.start()))
        elif not is_code:
            raise ValueError("begins like a call")
        at = block.end if block else at
    return found


def fenced(text: str) -> tuple[str, list[ToolCall]] | None:
    """The calls in fences at the end of an answer, and the text before.

    None if there is no fence, if one has anything else, or if anything follows.
    """
    first = begin = _FENCE_BEGINS.search(text)
    tag = BEGIN.search(text)
    if not first or (tag and tag.start() < first.start()):
        return None
    calls, trials = list[ToolCall](), Trials(text)
    while begin:
        ends = ((end.start(), end.end()) for end in _FENCE_ENDS.finditer(text, begin.end()))
        block = trials.calls(begin.end(), ends, _in_fence)
        if not block:
            return None
        calls += block.calls
        begin = _FENCE_BEGINS.search(text, block.end)
        if text[block.end : begin.start() if begin else len(text)].strip():
            return None
    return text[: first.start()], calls


def _in_fence(inner: str) -> list[ToolCall]:
    return calls_of(inner.strip(), may_be_bare=True)


def _ends(kind: str, text: str, at: int) -> Iterator[tuple[int, int]]:
    """Where a block may end, and its tag; the tag at the end of an answer may be missing."""
    pattern = ENDS[kind]
    if pattern is not None:
        yield from ((end.start(), end.end()) for end in pattern.finditer(text, at))
    if kind != "function":
        yield len(text), len(text)


def _is_code(text: str, start: int, end: int) -> bool:
    """Whether a part of the text is a quotation: in backticks, or in a fence in the middle."""
    if text[start - 1 : start] == "`" and not text.endswith("```", 0, start):
        return True
    if len(_FENCE.findall(text, 0, start)) % 2 == 0:
        return False
    fence = _FENCE.search(text, end)
    return bool(fence and text[fence.end() :].strip())
