"""Finds the tool calls in an answer; views that do not show calls as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from l4cli.chat.turn import AnswerView
from l4cli.prompt.tool_calls import ToolCall, parse_tool_calls

_TAGS = ("<|python_start|>", "<|python_end|>")
# The beginning of an object, of a list of calls or objects, or of a tagged call; or nothing yet.
_LIKE_CALLS = re.compile(r"\{|\[\s*(\{|[A-Za-z_][\w.]*\s*(\(|$)|$)|<\|python_start\|>|$")


def calls_of(text: str, names: Sequence[str]) -> tuple[ToolCall, ...]:
    """Return the calls that an answer consists of; none if it is an ordinary text.

    `names` are the functions that exist. A call to one of them needs no brackets around it. A JSON
    object whose "name" is not among them and that has no arguments is not a call.
    """
    bare = text.lstrip().startswith(tuple(f"{name}(" for name in names))
    calls = parse_tool_calls(f"{_TAGS[0]}{text.strip()}" if bare else text)[1]
    if any(c.name not in names and not c.arguments and f'"{c.name}"' in text for c in calls):
        return ()
    return calls


def tagged_text(
    token_ids: Sequence[int], piece: Callable[[int], bytes], special_tokens: Mapping[str, int]
) -> str:
    """Return an answer's text with the tags around its calls.

    piece: returns a token's bytes. The tags are control tokens, so their bytes are empty.
    special_tokens: the ids of the vocabulary's special tokens.
    """
    tags = {special_tokens[tag]: tag.encode() for tag in _TAGS if tag in special_tokens}
    text = b"".join(tags.get(token) or piece(token) for token in token_ids)
    return text.decode("utf-8", errors="replace")


def may_become_calls(text: str, names: Sequence[str]) -> bool:
    """Whether a text can still become calls when more of it arrives."""
    begun = text.lstrip()
    heads = [f"{name}(" for name in names]
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
