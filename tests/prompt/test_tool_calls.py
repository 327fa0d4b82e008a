"""Tool calls in answers: the ways models write them, and texts that only look like them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from marks import slow_but

from l4cli.prompt.call_tags import TAGS
from l4cli.prompt.tool_calls import ToolCall, parse_tool_calls, text_arguments

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
@example({"marker": "[TOOL_CALLS]"})
@example({"marker": "<tool_call>{}</tool_call>"})
@given(st.dictionaries(st.from_regex(r"[a-z]{3,8}_", fullmatch=True), json_values))
def test_what_was_written_is_what_is_read(arguments: dict[str, Any]) -> None:
    written = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    assert parse_tool_calls(f"[f({written})]") == ("", (ToolCall("f", arguments),))
    as_json = json.dumps({"name": "f", "parameters": arguments})
    assert parse_tool_calls(as_json) == ("", (ToolCall("f", arguments),))


FAMILIES = [
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}</tool_call>',
    '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}',
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n"
    "</tool_call>",
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
    '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo"}}]',
    '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}, "id": "a1b2c3d4e"}]',
    '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}',
    '[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Oslo"}',
    'get_weather{"city": "Oslo"}',
    '<function=get_weather>{"city": "Oslo"}</function>',
    '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Oslo"}}',
    '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Oslo"}}]<|/tool_call|>',
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Oslo"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo"}'
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    '```json\n{"name": "get_weather", "parameters": {"city": "Oslo"}}\n```',
    '```tool_code\nget_weather(city="Oslo")\n```',
    '{"type": "function", "name": "get_weather", "parameters": {"city": "Oslo"}}',
    '[get_weather(city="Oslo")]',
]


@pytest.mark.parametrize("text", FAMILIES)
def test_every_familys_calls(text: str) -> None:
    names = {"get_weather"}
    assert parse_tool_calls(text, names) == ("", (OSLO,))
    thought = f"<think>\nI could say {FAMILIES[0]}.\n</think>\n\n"
    assert parse_tool_calls(thought + text, names) == (thought.strip(), (OSLO,))
    assert parse_tool_calls(f"hm</think>{text}", names) == ("hm</think>", (OSLO,))
    assert parse_tool_calls(text, {"other"}) == (text, ())
    assert parse_tool_calls(f"<think>{text}", names) == (f"<think>{text}", ())


@pytest.mark.parametrize("text", FAMILIES[:-2])
def test_calls_in_tags_may_stand_after_a_text(text: str) -> None:
    if not text.startswith("get_weather"):
        assert parse_tool_calls(f"Let me see. {text}", {"get_weather"}) == ("Let me see.", (OSLO,))


def test_several_blocks_and_the_text_around_them() -> None:
    block = FAMILIES[0]
    text = f"First {block}\n{block} and then."
    assert parse_tool_calls(text) == ("First \n and then.", (OSLO, OSLO))
    assert parse_tool_calls('[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}' * 2)[1] == (OSLO, OSLO)


def test_a_text_that_looks_like_a_number_stays_a_text() -> None:
    schema = {"properties": {"zip": {"type": "string"}, "days": {"type": "integer"}}}
    texts = text_arguments([{"function": {"name": "f", "parameters": schema}}])
    text = (
        "<tool_call><function=f><parameter=zip>\n0150\n</parameter>"
        "<parameter=days>\n2\n</parameter></function></tool_call>"
    )
    assert parse_tool_calls(text, {"f"}, texts)[1] == (ToolCall("f", {"zip": "0150", "days": 2}),)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_arguments_that_json_cannot_say_are_no_call(number: str) -> None:
    for text in (
        f'{{"name": "f", "parameters": {{"x": {number}}}}}',
        f'<tool_call>{{"name": "f", "arguments": {{"x": [{number}]}}}}</tool_call>',
        f'[TOOL_CALLS]f[ARGS]{{"x": {number}}}',
        f'<function=f>{{"x": {number}}}</function>',
    ):
        assert parse_tool_calls(text, {"f"}) == (text, ())


TAGGED_TEXTS = st.lists(
    st.sampled_from(
        [
            *TAGS,
            "</function>",
            "</parameter>",
            "```",
            "\n",
            "`",
            '"',
            "}",
            "]",
            ";",
            "\\",
            "é",
            "a ",
        ]
    )
).map("".join)
IN_JSON = {  # how families write a call in JSON: what stands around it
    "hermes": ('<tool_call>\n{"name": "f", "arguments": ', "}\n</tool_call>"),
    "mistral": ('[TOOL_CALLS][{"name": "f", "arguments": ', "}]"),
    "mistral 11": ("[TOOL_CALLS]f[ARGS]", ""),
    "llama 3.1": ("<function=f>", "</function>"),
    "llama 3": ('<|python_tag|>{"name": "f", "parameters": ', "}"),
    "llama": ('{"name": "f", "parameters": ', "}"),
    "phi": ('<|tool_call|>[{"name": "f", "arguments": ', "}]<|/tool_call|>"),
    "deepseek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n",
        "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    "deepseek 3.1": ("<｜tool▁call▁begin｜>f<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
    "fence": ('```json\n{"name": "f", "parameters": ', "}\n```"),
}


@pytest.mark.parametrize("family", slow_but(["hermes", "mistral 11", "deepseek"], IN_JSON))
@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TAGGED_TEXTS, TAGGED_TEXTS | st.lists(TAGGED_TEXTS) | st.integers()))
@example({"text": "</tool_call>", "more": "</think> <think>"})
@example({"text": '"}}\n</tool_call>'})
def test_an_argument_that_quotes_tags_is_read_whole(family: str, arguments: dict[str, Any]) -> None:
    begin, end = IN_JSON[family]
    text = f"{begin}{json.dumps(arguments, ensure_ascii=False)}{end}"
    assert parse_tool_calls(text, {"f"}) == ("", (ToolCall("f", arguments),))
    assert parse_tool_calls(f"<think>hm</think>{text}", {"f"})[1] == (ToolCall("f", arguments),)


QUOTES = ["`<tool_call>`", "`</tool_call>`", "`[TOOL_CALLS]`", "`<function=f>`", "`</think>`"]
QUOTES += [
    f"`{FAMILIES[0]}`",
    f"```xml\n{FAMILIES[0]}\n```\nis a call.",
    f"```\n{FAMILIES[3]}\n```\nis another one.",
    "`<tool_call>{…}</tool_call>`",
    "a <tool_call> tag",
    "words",
    "\n",
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(QUOTES), max_size=6).map(" and\n".join))
def test_prose_that_quotes_tags_stays_text(text: str) -> None:
    assert parse_tool_calls(f"{text} so", {"get_weather"}) == (f"{text} so", ())


def test_a_call_after_prose_that_names_the_tag_is_a_call() -> None:
    prose = "With `<tool_call>` I ask, as in `<tool_call>{…}</tool_call>`:\n"
    content, calls = parse_tool_calls(prose + FAMILIES[0], {"get_weather"})
    assert (content, calls) == (prose.strip(), (OSLO,))


def test_half_of_what_was_meant_is_no_call() -> None:
    text = f'{FAMILIES[0]}\n<tool_call>\n{{"name": "get_weather", "arguments": {{"ci</tool_call>'
    assert parse_tool_calls(text, {"get_weather"}) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "Write <tool_call> to call a function.",
        "<tool_call></tool_call>",
        "[TOOL_CALLS]",
        "[TOOL_CALLS]nothing",
        '```json\n{"city": "Oslo"}\n```',
        '```json\n{"name": "f", "arguments": {}}\n```\nis how to call f.',
        "```python\nprint(1)\n```",
        "<function=f>no json</function>",
        "<tool_call>f <arg_key>x</arg_key></tool_call>",
        "f{not json}",
        "<tool_call>" * 2000,
        "`<tool_call>{</tool_call>" * 5000,
        "<tool_call>{" + "</tool_call>" * 20_000,
        "<function=f>{</function>" * 5000,
        "```json\n{" + "```" * 20_000,
        "<think>" * 2000 + "</think>" * 2000,
        "<tool_call><function=" * 500,
        "<tool_call><function=f>" + "<parameter=x>" * 3000,
        "[TOOL_CALLS]" + "f[ARGS]{}" * 3000 + "x",
    ],
)
def test_what_only_looks_like_calls_stays_text(text: str) -> None:
    assert parse_tool_calls(text, {"f"}) == (text, ())
