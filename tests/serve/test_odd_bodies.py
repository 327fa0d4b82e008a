"""Bodies with odd values at any place are read, or refused by name: never a fault of the server."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from l4cli.errors import InputError, L4Error
from l4cli.openai import embeddings as embedding_bodies
from l4cli.serve.anthropic import bodies as anthropic_bodies
from l4cli.serve.errors import api_error
from l4cli.serve.responses import bodies as responses_bodies

ODD: list[Any] = [None, True, 0, -1, 1.5, 10**30, "", "x", [], {}, [5], [[]], [{}], {"type": []}]
ODD += [{"type": {}}, {"type": "x"}, [{"type": None}], "\ud800", {"": ""}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ANTHROPIC: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "system": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": ""},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "is_error": False,
                    "content": [{"type": "text", "text": "Rain"}],
                }
            ],
        },
    ],
    "tools": [{"type": "custom", "name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "context_management": {"edits": [{"type": "x", "keep": "all"}]},
    "stop_sequences": ["x"],
    "temperature": 1,
    "top_p": 0.5,
    "top_k": 3,
    "stream": False,
    "metadata": {"user_id": "x"},
    "mcp_servers": [],
}
RESPONSES: dict[str, Any] = {
    "model": "m",
    "instructions": "Be kind.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "a"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "n"}]},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"city": "Oslo"}'},
        {"type": "function_call_output", "call_id": "a", "output": "Rain"},
    ],
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": SCHEMA}],
    "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"name": "f"}]},
    "text": {
        "verbosity": "medium",
        "format": {"type": "json_schema", "name": "n", "schema": SCHEMA},
    },
    "reasoning": {"effort": "none", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 2,
    "max_output_tokens": 5,
    "parallel_tool_calls": False,
    "previous_response_id": "resp_x",
    "store": True,
    "stream": False,
    "temperature": 1,
    "truncation": "disabled",
    "background": False,
}
EMBEDDINGS: dict[str, Any] = {
    "model": "m",
    "input": ["a", [5, 6]],
    "encoding_format": "base64",
    "dimensions": 5,
    "user": "x",
}


def read_responses(body: Mapping[str, Any]) -> object:
    responses_bodies.previous_id(body)
    return responses_bodies.read(body, ())


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value within a value."""
    yield at
    inner = value.items() if isinstance(value, dict) else ()
    for key, one in enumerate(value) if isinstance(value, list) else inner:
        yield from places(one, (*at, key))


def with_odd(body: dict[str, Any], at: tuple[Any, ...], odd: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    target: Any = changed
    for key in at[:-1]:
        target = target[key]
    target[at[-1]] = odd
    return changed


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (ANTHROPIC, anthropic_bodies.read),
        (RESPONSES, read_responses),
        (EMBEDDINGS, embedding_bodies.read),
    ],
    ids=["messages", "responses", "embeddings"],
)
def test_an_odd_value_at_any_place(
    body: dict[str, Any], read: Callable[[Mapping[str, Any]], object]
) -> None:
    read(body)
    for at in places(body):
        for odd in ODD if at else ():
            with suppress(L4Error):
                read(with_odd(body, at, odd))


@pytest.mark.parametrize("body", [ANTHROPIC, RESPONSES], ids=["messages", "responses"])
def test_a_refusal_names_the_field(body: dict[str, Any]) -> None:
    read = anthropic_bodies.read if body is ANTHROPIC else read_responses
    for at in places(body):
        if len(at) != 1 or at[0] in ("model", "metadata", "input"):
            continue
        with pytest.raises(InputError) as refused:
            read(with_odd(body, at, [{"odd": 1}]))
        assert (api_error(refused.value).param or "").startswith(at[0])
