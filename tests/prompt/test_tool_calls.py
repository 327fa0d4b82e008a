"""Tool calls in answers: the ways models write them, and texts that only look like them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l4cli.prompt.tool_calls import ToolCall, parse_tool_calls

OSLO = ToolCall("get_weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    "text",
    [
        '[get_weather(city="Oslo")]',
        " [ get_weather( city = 'Oslo' ) ]\n",
        '{"name": "get_weather", "parameters": {"city": "Oslo"}}',
        '{"name": "get_weather", "arguments": {"city": "Oslo"}}',
        '[{"name": "get_weather", "parameters": {"city": "Oslo"}}]',
        '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}',
        '<|python_start|>[get_weather(city="Oslo")]<|python_end|>',
        '<|python_start|>get_weather(city="Oslo")<|python_end|>',
        '<|python_start|>{"name": "get_weather", "parameters": {"city": "Oslo"}}',
    ],
)
def test_every_way_a_call_is_written(text: str) -> None:
    assert parse_tool_calls(text) == ("", (OSLO,))


def test_several_calls() -> None:
    assert parse_tool_calls("[a(), b.c(x=1)]")[1] == (ToolCall("a", {}), ToolCall("b.c", {"x": 1}))
    text = '{"name": "a", "parameters": {}}; {"name": "b", "parameters": {"x": [1]}}'
    assert parse_tool_calls(text)[1] == (ToolCall("a", {}), ToolCall("b", {"x": [1]}))


def test_values_are_json_values() -> None:
    _, (call,) = parse_tool_calls("[f(a=-1, b=1.5, c=True, d=false, e=None, g=(1, {'k': []}))]")
    assert call.arguments == {
        "a": -1,
        "b": 1.5,
        "c": True,
        "d": False,
        "e": None,
        "g": [1, {"k": []}],
    }


def test_what_is_said_before_the_tags_is_content() -> None:
    text = 'Let me see. <|python_start|>[get_weather(city="Oslo")]<|python_end|>'
    assert parse_tool_calls(text) == ("Let me see.", (OSLO,))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Just an answer.",
        "[1, 2, 3]",
        "[]",
        '{"city": "Oslo"}',
        '{"name": "Bob", "parameters": "none"}',
        'Sure: [get_weather(city="Oslo")]',
        '[get_weather("Oslo")]',
        '[get_weather(city="Oslo"',
        '[get_weather(city=capital("Norway"))]',
        "[f(x=1e999)]",
        "[f(x=1, x=2)]",
        "[f(**{})]",
        "[f(x=b'bytes')]",
        "[(lambda: 1)()]",
        "[" * 5000,
        "[f(x=" + "[" * 3000,
        "[f(x='\0')]",
    ],
)
def test_everything_else_stays_text(text: str) -> None:
    assert parse_tool_calls(text) == (text, ())


def test_a_function_nobody_offered_stays_text() -> None:
    text = '{"name": "Bob", "parameters": {}}'
    assert parse_tool_calls(text, {"get_weather"}) == (text, ())
    assert parse_tool_calls(text, {"Bob"})[1] == (ToolCall("Bob", {}),)


def test_a_strange_escape_is_kept_and_warns_nobody() -> None:
    _, (call,) = parse_tool_calls(r'[f(pattern="\d+")]')
    assert call.arguments == {"pattern": r"\d+"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{3,8}_", fullmatch=True), json_values))
def test_what_was_written_is_what_is_read(arguments: dict[str, Any]) -> None:
    written = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    assert parse_tool_calls(f"[f({written})]") == ("", (ToolCall("f", arguments),))
    as_json = json.dumps({"name": "f", "parameters": arguments})
    assert parse_tool_calls(as_json) == ("", (ToolCall("f", arguments),))
