"""Parses the tool calls in an answer's text, in the ways of all families (`call_tags.py`).

Beside calls in tags there are answers that consist of calls: a Python list,
`[get_weather(city="Oslo")]`, or JSON, `{"name": "get_weather", "parameters": {"city": "Oslo"}}`,
also in a fence of Markdown at the end of an answer. What a model thought before, up to `</think>`,
calls nothing. Text that only looks like a call stays text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from l4cli.engine.channels import Said
from l4cli.prompt.call_blocks import Block, blocks, fenced
from l4cli.prompt.call_tags import OPEN_THOUGHT, THOUGHT, THOUGHT_ENDS
from l4cli.prompt.written_calls import (
    MISTRAL,
    UNREADABLE,
    Texts,
    ToolCall,
    arguments_of,
    calls_of,
    from_mistral,
)

__all__ = ["ToolCall", "calls_in_channels", "parse_tool_calls", "text_arguments"]


def text_arguments(tools: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, str]]:
    """The arguments of these functions, as (function, argument), whose schema says string."""
    found = set[tuple[str, str]]()
    for tool in tools:
        function = tool.get("function", tool)
        parameters = function.get("parameters") if isinstance(function, Mapping) else None
        properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
        if isinstance(properties, Mapping):
            found |= {
                (function.get("name"), name)
                for name, schema in properties.items()
                if isinstance(schema, Mapping) and schema.get("type") == "string"
            }
    return frozenset(found)


def parse_tool_calls(
    text: str, names: Collection[str] | None = None, texts: Texts = frozenset()
) -> tuple[str, tuple[ToolCall, ...]]:
    """Split an answer into its text and its calls: (content, calls).

    With tags, the content is the text around them. Otherwise the calls are all there is, but for
    what was thought before, or a text before a fence. With `names`, an answer that calls any other
    function stays text; a fence is only looked into with `names`. Some formats write a text and a
    number alike: `texts` has the arguments that are texts, as (function, argument).
    """
    start = _answer_begins(text, names, texts)
    if start is None:
        return text, ()
    try:
        content, calls = _split(text[start:], names, texts)
    except UNREADABLE:
        return text, ()
    if not calls or (names is not None and any(call.name not in names for call in calls)):
        return text, ()
    return (text[:start] + content).strip(), tuple(calls)


def _answer_begins(text: str, names: Collection[str] | None, texts: Texts) -> int | None:
    """Where what was thought ends; None if all of it was. An argument may quote `</think>`."""
    if OPEN_THOUGHT.match(text):
        thought = THOUGHT.match(text)
        return thought.end() if thought else None
    end = THOUGHT_ENDS.search(text)
    if end is None:
        return 0
    try:
        content, calls = _split(text, names, texts)
    except UNREADABLE:
        return end.end()
    return 0 if calls and not THOUGHT_ENDS.search(content) else end.end()


def calls_in_channels(said: Said, names: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls of an answer in channels; none if any is damaged, or of a function not in names."""
    try:
        calls = [ToolCall(name, arguments_of(text.strip() or "{}")) for name, text in said.calls]
    except UNREADABLE:
        return ()
    return tuple(calls) if all(call.name in names for call in calls) else ()


def _split(text: str, names: Collection[str] | None, texts: Texts) -> tuple[str, list[ToolCall]]:
    """The text around the calls, and the calls; ValueError or SyntaxError if something is wrong."""
    if calls := _only_calls(text.strip()):  # first, since an argument may quote a tag
        return "", calls
    if names is not None and (in_fences := fenced(text)):
        return in_fences
    if found := blocks(text, texts):
        return _around(text, found), [call for block in found for call in block.calls]
    if names is not None and (named := MISTRAL.match(text)) and named[1] in names:
        return "", from_mistral(text)
    raise ValueError("no calls")


def _around(text: str, found: Iterable[Block]) -> str:
    """The text without the blocks."""
    content, at = "", 0
    for block in found:
        content += text[at : block.start]
        at = block.end
    return content + text[at:]


def _only_calls(source: str) -> list[ToolCall]:
    """The calls that an answer consists of, or nothing if it has anything else."""
    try:
        return calls_of(source)
    except UNREADABLE:
        return []
