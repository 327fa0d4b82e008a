"""Finds the tool calls in an answer; views that do not show calls as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from l4cli.chat.turn import AnswerView
from l4cli.prompt.call_tags import TAGS
from l4cli.prompt.call_tags import tagged_text as tagged_text
from l4cli.prompt.tool_calls import ToolCall, parse_tool_calls

# A list of calls or of objects, an object, a fence or a tag, or what may become one of them.
_LIKE_CALLS = re.compile(r"\{|\[\s*(\{|[A-Za-z_][\w.]*\s*(\(|$)|$)|```(json|tool|python|$)|$")


def calls_of(text: str, names: Sequence[str]) -> tuple[ToolCall, ...]:
    """Return the calls that an answer consists of; none if it is an ordinary text.

    `names` are the functions that exist. A call to one of them needs no brackets around it. A JSON
    object whose "name" is not among them and that has no arguments is not a call.
    """
    bare = text.lstrip().startswith(tuple(f"{name}(" for name in names))
    calls = parse_tool_calls(f"<|python_start|>{text.strip()}" if bare else text)[1]
    calls = calls or parse_tool_calls(text, names)[1]
    if any(c.name not in names and not c.arguments and f'"{c.name}"' in text for c in calls):
        return ()
    return calls


def may_become_calls(text: str, names: Sequence[str]) -> bool:
    """Whether a text can still become calls when more of it arrives."""
    begun = text.lstrip()
    heads = [*TAGS, "<function=", *(f"{name}{after}" for name in names for after in "({[")]
    return bool(_LIKE_CALLS.match(begun)) or any(
        begun.startswith(head) or head.startswith(begun) for head in heads
    )


class CallGate:
    """A view that shows ordinary text and holds back text that may be calls.

    Once the text cannot become calls any more, it is shown and the rest streams.
    """

    def __init__(self, view: AnswerView, names: Sequence[str]) -> None:
        self._view, self._names = view, names
        self._held = ""
        self._is_open = False

    def progress(self, done: int, total: int) -> None:
        self._view.progress(done, total)

    def write(self, text: str) -> None:
        if self._is_open:
            self._view.write(text)
            return
        self._held += text
        if not may_become_calls(self._held, self._names):
            self._open()

    def close(self) -> None:
        if not self._is_open and not calls_of(self._held, self._names):
            self._open()
        self._view.close()

    def _open(self) -> None:
        self._is_open = True
        if self._held:
            self._view.write(self._held)


class FinalView:
    """A view for programs: shows an answer once it has ended, and nothing if it is calls."""

    def __init__(self, make_view: Callable[[], AnswerView], names: Sequence[str]) -> None:
        self._make_view, self._names = make_view, names
        self._text = ""

    def progress(self, done: int, total: int) -> None:
        pass

    def write(self, text: str) -> None:
        self._text += text

    def close(self) -> None:
        if calls_of(self._text, self._names):
            return
        view = self._make_view()
        if self._text:
            view.write(self._text)
        view.close()
