"""Splits the text of an answer while it is generated: into thought, text and what may be calls.

Text is passed on as soon as it can be nothing else. What may be a tool call is held back until the
answer ends, when `said_in` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

from l4cli.engine.thoughts import THINK, Tags, Thoughts

# The beginnings of calls in a text: `prompt/call_tags.py`.
_OPENERS = (
    "<|python_start|>",
    "<|python_tag|>",
    "<tool_call>",
    "<|tool_call|>",
    "<function=",
    "[TOOL_CALLS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "```",
)
_OPENER = re.compile("|".join(map(re.escape, _OPENERS)))


class Piece(NamedTuple):
    """New text of an answer that can no longer change."""

    text: str = ""
    reasoning: str = ""


class Splitter:
    """Splits one answer.

    thoughts: how the model marks its thoughts; None if it has none.
    in_channels: the answer is written in channels (`engine/channels.py`), and may think repeatedly.
    functions: the names of the functions that the answer may call; empty for none.
    """

    def __init__(
        self,
        thoughts: Thoughts | None,
        *,
        in_channels: bool = False,
        functions: Collection[str] = (),
    ) -> None:
        self._tags = THINK if in_channels else thoughts.tags if thoughts else None
        self._is_repeated = in_channels
        self._functions = tuple(functions)
        self._state: Literal["beginning", "thought", "answer"] = "answer"
        if self._tags:
            is_begun = thoughts is not None and thoughts.is_begun and not in_channels
            self._state = "thought" if is_begun else "beginning"
        self._held = ""  # not passed on yet
        self._answer = ""  # the text passed on
        self._has_call = False  # the rest of the answer is held back
        self._is_at_start = True  # of a thought, or of what follows one: white space is left out

    @property
    def is_thinking(self) -> bool:
        """Whether the text so far ends within a thought."""
        return self._state == "thought"

    def feed(self, text: str, *, has_call_tag: bool = False) -> Piece:
        """Add text of the answer.

        has_call_tag: a control token that begins a call came with this text or before it.
        """
        self._held += text
        reasoning = ""
        while True:
            if self._state == "beginning" and not self._begins():
                break
            if self._state == "thought":
                part, has_ended = self._thought()
                reasoning += part
                if not has_ended:
                    break
                continue
            break
        if self._state != "answer":
            return Piece(reasoning=reasoning)
        self._has_call |= has_call_tag
        return Piece(self._safe_text(), reasoning)

    def finish(self, text: str, reasoning: str, said_reasoning: str) -> Piece:
        """Return what is left to pass on of an answer that has ended.

        text: the whole text, without calls.
        reasoning: all reasoning passed on so far.
        said_reasoning: the whole reasoning.
        """
        return Piece(_rest(text, self._answer), _rest(said_reasoning, reasoning))

    def _begins(self) -> bool:
        """Find out whether a thought begins; False if more text is needed for that."""
        assert self._tags
        text = self._held.lstrip()
        for tag in {self._tags.begin, THINK.begin}:
            if text.startswith(tag):
                self._held, self._state, self._is_at_start = text[len(tag) :], "thought", True
                return True
            if tag.startswith(text):
                return False
        self._state = "answer"
        return True

    def _thought(self) -> tuple[str, bool]:
        """Take the thought out of what is held; return it, and whether it has ended."""
        assert self._tags
        ends = Tags(self._tags.end, THINK.end)
        found = [at for tag in ends if (at := self._held.find(tag)) >= 0]
        if found:
            at = min(found)
            tag = next(tag for tag in ends if self._held.startswith(tag, at))
            part, self._held = self._held[:at].rstrip(), self._held[at + len(tag) :]
            if self._is_at_start:
                part = part.lstrip()
            self._state = "beginning" if self._is_repeated else "answer"
            self._is_at_start = True
            return part, True
        keep = max(_num_possible(self._held, tag) for tag in ends)
        part = self._held[: len(self._held) - keep] if keep else self._held
        part = part[: len(part.rstrip())]  # white space before the end is none of the thought's
        self._held = self._held[len(part) :]
        if self._is_at_start:
            part = part.lstrip()
            self._is_at_start = not part
        return part, False

    def _safe_text(self) -> str:
        """Take the text out of what is held that is no call."""
        if self._tags and self._is_at_start and not self._answer:
            self._held = self._held.lstrip()
        if self._has_call or (self._functions and not self._answer and self._may_be_calls()):
            return ""
        safe = len(self._held)
        if self._functions:
            if opener := _OPENER.search(self._held):
                safe, self._has_call = opener.start(), True
            else:
                safe -= max(_num_possible(self._held, opener) for opener in _OPENERS)
            safe = len(self._held[:safe].rstrip())  # before a call, white space is left out
        part, self._held = self._held[:safe], self._held[safe:]
        self._answer += part
        return part

    def _may_be_calls(self) -> bool:
        """Whether the answer may consist of calls: a list, an object, or a function's name."""
        text = self._held.lstrip()
        if not text or text[0] in "[{":
            return True
        return any(text.startswith(name) or name.startswith(text) for name in self._functions)


def _rest(whole: str, passed: str) -> str:
    """What follows the part of a text that was passed on; white space around it may differ."""
    if whole.startswith(passed):
        return whole[len(passed) :]
    whole, passed = whole.strip(), passed.strip()
    return whole[len(passed) :] if whole.startswith(passed) else ""


def _num_possible(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    most = min(len(text), len(tag) - 1)
    return next((count for count in range(most, 0, -1) if text.endswith(tag[:count])), 0)
