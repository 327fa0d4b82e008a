"""What an answer says: its thought, its text and its tool calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from l4cli.engine.types import Completion
from l4cli.openai.fields import tool_name
from l4cli.prompt.call_tags import THOUGHT_ENDS
from l4cli.prompt.tool_calls import ToolCall, calls_in_channels, parse_tool_calls, text_arguments

# Returns the text of an answer with the tags around its calls, which as control tokens have no
# text: `LLM.tagged_text`.
Tagged = Callable[[Completion], str]


class Said(NamedTuple):
    """The parts of an answer."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""


def said_in(
    completion: Completion,
    tools: Sequence[Mapping[str, Any]] | None,
    tagged: Tagged,
    most_calls: int | None = None,
) -> Said:
    """Return the parts of an answer. Only an answer to a request with tools can have calls.

    most_calls: further calls are left out; None for no limit.
    """
    reasoning = completion.reasoning
    if not tools:
        return Said(completion.text, (), reasoning)
    names = {name for tool in tools if (name := tool_name(tool))}
    if said := completion.said:
        content, calls = said.text, calls_in_channels(said, names)
    else:
        content, calls = parse_tool_calls(tagged(completion), names, text_arguments(tools))
        if reasoning:
            content = THOUGHT_ENDS.split(content, maxsplit=1)[-1]
    if not calls:
        return Said(completion.text, (), reasoning)
    return Said(content, calls[:most_calls], reasoning)
