"""Answers that must call a function, or must be JSON, though the model thinks first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l4cli.engine.completion import without_thought
from l4cli.engine.llamacpp import LlamaModel
from l4cli.engine.types import Completion, Constraint
from l4cli.errors import RequestError
from l4cli.prompt import PromptEncoder
from l4cli.prompt.call_grammar import call_constraint
from l4cli.prompt.tool_calls import ToolCall, parse_tool_calls, text_arguments

CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/c"}}, "required": ["city"]}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {**CITY, "$defs": {"c": {"type": "string"}}},
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
OSLO, NOW = ToolCall("get_weather", {"city": "Oslo"}), ToolCall("now", {})
WRITTEN = {  # by what the template says of calls
    "<tool_call>": "<tool_call>\n"
    '{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    "[TOOL_CALLS]": '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Oslo"}}]',
    "[TOOL_CALLS] [ARGS]": '[TOOL_CALLS]get_weather[ARGS]{"city": "Oslo"}',
    "[TOOL_CALLS] [CALL_ID]": '[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Oslo"}',
    "": '{"name": "get_weather", "parameters": {"city": "Oslo"}}',
    "<｜tool▁call▁begin｜> ```json": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
    'function<｜tool▁sep｜>get_weather\n```json\n{"city": "Oslo"}\n```'
    "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather"
    '<｜tool▁sep｜>{"city": "Oslo"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
}


@pytest.fixture(scope="module")
def model(tiny_gguf: Path) -> Iterator[LlamaModel]:
    model = LlamaModel(tiny_gguf, vocab_only=True)
    yield model
    model.close()


def accepts(model: LlamaModel, constraint: Constraint, text: str) -> bool:
    """Whether a text is a whole answer of the language."""
    matcher = model.matcher(constraint)
    followed = all(map(matcher.consume, model.tokenize(text)))
    return followed and (matcher.ends or matcher.consume(min(model.eog_tokens)))


@pytest.mark.parametrize("template", WRITTEN)
def test_each_family_calls_in_its_own_way(model: LlamaModel, template: str) -> None:
    constraint = call_constraint(TOOLS, ["get_weather", "now"], template, {})
    text = WRITTEN[template]
    assert accepts(model, constraint, text)
    assert parse_tool_calls(text, {"get_weather"}) == ("", (OSLO,))
    assert accepts(model, constraint, text.replace("get_weather", "now"))
    assert not accepts(model, constraint, text.replace("get_weather", "other"))
    assert not accepts(model, constraint, text.replace('"Oslo"', "1"))
    assert not accepts(model, constraint, "It rains.")
    named = call_constraint(TOOLS, ["now"], template, {})
    assert not accepts(model, named, text)
    assert accepts(model, named, text.replace("get_weather", "now"))


def test_several_calls_where_the_family_has_them(model: LlamaModel) -> None:
    in_list = WRITTEN["[TOOL_CALLS]"].replace("}]", '}, {"name": "now", "arguments": {}}]')
    for template, text in (
        ("<tool_call>", f"{WRITTEN['<tool_call>']}\n{WRITTEN['<tool_call>']}"),
        ("[TOOL_CALLS] [ARGS]", WRITTEN["[TOOL_CALLS] [ARGS]"] * 2),
        ("[TOOL_CALLS]", in_list),
    ):
        assert accepts(model, call_constraint(TOOLS, ["get_weather", "now"], template, {}), text)
        assert len(parse_tool_calls(text, {"get_weather", "now"})[1]) == 2


def test_calls_as_python_writes_them(model: LlamaModel) -> None:
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}, "at": {"type": "array"}}
    tool = {"name": "f", "parameters": {"properties": properties, "required": ["days"]}}
    template = 'answer with a list of calls: [name(argument="value", other=1)]'
    constraint = call_constraint([tool, {"name": "now"}], ["f", "now"], template, {})
    for good in (
        "[f(days=2)]",
        '[f(days=2, city="Oslo")]',
        '[f(days=2, city="å", at=[{"a": null}])]',
        "[f(days=2), now()]",
    ):
        assert accepts(model, constraint, good), good
        assert parse_tool_calls(good)[1]
    for bad in ("[f()]", '[f(city="Oslo")]', '[f(days="2")]', "[f(days=2, a=1)]", "[g()]", "[]"):
        assert not accepts(model, constraint, bad), bad
    tool["parameters"] = {"properties": properties}
    optional = call_constraint([tool], ["f"], template, {})
    for good in ("[f()]", '[f(city="Oslo", days=2)]', "[f(days=2)]"):
        assert accepts(model, optional, good), good


def coder(city: str, more: str = "") -> str:
    argument = f"<parameter=city>\n{city}\n</parameter>\n"
    return f"<tool_call>\n<function=f>\n{argument}{more}</function>\n</tool_call>"


def glm(city: str, more: str = "") -> str:
    argument = f"<arg_key>city</arg_key>\n<arg_value>{city}</arg_value>\n"
    return f"<tool_call>f\n{argument}{more}</tool_call>"


IN_TAGS = {"<tool_call> <function= <parameter=": coder, "<tool_call> <arg_key>": glm}
DAYS = {
    coder: "<parameter=days>\n2\n</parameter>\n",
    glm: "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n",
}
F = {
    "name": "f",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}


@pytest.mark.parametrize("template", IN_TAGS)
def test_arguments_between_tags(model: LlamaModel, template: str) -> None:
    write = IN_TAGS[template]
    constraint = call_constraint([F, {"name": "now"}], ["f", "now"], template, {})
    texts = text_arguments([F])
    for good, arguments in (
        (write("Oslo"), {"city": "Oslo"}),
        (write("0150", DAYS[write]), {"city": "0150", "days": 2}),
        (write('"a" <b>\n\n </c>'), {"city": '"a" <b>\n\n </c>'}),
    ):
        assert accepts(model, constraint, good), good
        assert parse_tool_calls(good, {"f"}, texts)[1] == (ToolCall("f", arguments),)
        assert accepts(model, constraint, f"{good}\n{good}")
    assert not accepts(model, constraint, write("Oslo", DAYS[write].replace("2", '"2"')))
    assert not accepts(model, constraint, write("Oslo").replace("Oslo", "</tool_call>"))
    assert not accepts(model, constraint, write("Oslo").replace("city", "town"))
    now = write("x").replace("f>", "now>").replace(">f\n", ">now\n")
    empty = now.replace(write("x").partition("f")[2], "")
    assert not accepts(model, constraint, now)
    assert not accepts(model, constraint, empty)


QUOTED = [
    *'ab<>/=\n"\\é ',
    "<parameter=",
    "</parameter>",
    "</tool_call>",
    "<arg_key>",
    "</arg_value>",
]
QUOTED += ["</function>", "<function=f>", "<tool_call>", "<param", "`", "</think>"]


@pytest.mark.parametrize("template", IN_TAGS)
@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from(QUOTED)).map("".join), has_days=st.booleans())
def test_what_the_grammar_allows_is_read_as_it_was_meant(
    model: LlamaModel, template: str, text: str, has_days: bool
) -> None:
    write = IN_TAGS[template]
    written = write(text, DAYS[write] if has_days else "")
    if accepts(model, call_constraint([F], ["f"], template, {}), written):
        meant = {"city": text, **({"days": 2} if has_days else {})}
        _, calls = parse_tool_calls(written, {"f"}, text_arguments([F]))
        assert calls == (ToolCall("f", meant),)


@pytest.mark.parametrize("template", IN_TAGS)
def test_texts_with_a_pattern_are_written_as_json(model: LlamaModel, template: str) -> None:
    about = {"type": "string", "pattern": "^[0-9]{4}$"}
    tool = {"name": "f", "parameters": {"properties": {"zip": about}, "required": ["zip"]}}
    text = '<tool_call>\n{"name": "f", "arguments": {"zip": "0150"}}\n</tool_call>'
    assert accepts(model, call_constraint([tool], ["f"], template, {}), text)
    assert not accepts(
        model, call_constraint([tool], ["f"], template, {}), text.replace("0150", "x")
    )


def test_texts_of_a_list_stand_between_tags(model: LlamaModel) -> None:
    about = {"type": "string", "enum": ["C", "°F"]}
    tool = {"name": "f", "parameters": {"properties": {"city": about}, "required": ["city"]}}
    for template, write in IN_TAGS.items():
        constraint = call_constraint([tool], ["f"], template, {})
        assert accepts(model, constraint, write("°F"))
        assert not accepts(model, constraint, write("K"))


def test_names_that_python_cannot_write_are_called_in_json(model: LlamaModel) -> None:
    template = "[name(argument=1)]"
    for name, argument in (("get-weather", "city"), ("f", "in"), ("f", "a b")):
        tool = {"name": name, "parameters": {"properties": {argument: {}}}}
        text = f'{{"name": "{name}", "parameters": {{"{argument}": 1}}}}'
        assert accepts(model, call_constraint([tool], [name], template, {}), text)
        assert parse_tool_calls(text, {name})[1] == (ToolCall(name, {argument: 1}),)


def test_tags_may_be_control_tokens(model: LlamaModel) -> None:
    special = model.special_tokens
    tag, args = sorted(special.values())[5:7]
    tags = {"[TOOL_CALLS]": tag, "[ARGS]": args}
    constraint = call_constraint(TOOLS, ["now"], "[TOOL_CALLS] [ARGS]", tags)
    matcher = model.matcher(constraint)
    ids = [tag, *model.tokenize("now"), args, *model.tokenize("{}")]
    assert all(map(matcher.consume, ids))
    assert not accepts(model, constraint, "[TOOL_CALLS]now[ARGS]{}")


def test_a_name_that_is_no_tools() -> None:
    with pytest.raises(RequestError, match="names 'f', which is not among the tools"):
        call_constraint(TOOLS, ["f"], "", {})


JSON = Constraint("json_schema", '{"properties": {"a": {"type": "integer"}}, "required": ["a"]}')


@pytest.mark.parametrize("constraint", [JSON, Constraint("json_object")])
def test_a_schema_binds_what_comes_after_the_thought(
    model: LlamaModel, constraint: Constraint
) -> None:
    text = '{"a": 1}'
    may, must = (replace(constraint, thinking=how) for how in ("may", "must"))  # type: ignore[arg-type]
    assert accepts(model, may, text)
    assert accepts(model, may, f"<think>\nhm, {{ </thin>\n</think>\n\n{text}")
    assert accepts(model, must, f"hm</think>\n{text}")
    for no in (f"<think>hm{text}", f"<think>hm</think>{text} and", f"<think></think><think>{text}"):
        assert not accepts(model, may, no)
    assert not accepts(model, must, text)
    assert not accepts(model, constraint, f"<think>hm</think>{text}")


def test_a_call_comes_after_the_thought(model: LlamaModel) -> None:
    constraint = replace(call_constraint(TOOLS, ["now"], "", {}), thinking="may")
    text = '<think>What time?</think>\n{"name": "now", "parameters": {}}'
    assert accepts(model, constraint, text)
    assert parse_tool_calls(text, {"now"}) == ("<think>What time?</think>", (NOW,))


@pytest.mark.parametrize(
    ("template", "thinking"),
    [
        ("{{ messages[0].content }}", "no"),
        ("{{ messages[0].content.split('</think>')[-1] }}<|a|>", "may"),
        ("{{ messages[0].content }}<|a|><think>\n", "must"),
        ("{{ messages[0].content }}<|a|><think>\n\n</think>\n\n", "no"),
        ("{{ raise_exception('never') }}</think>", "no"),
    ],
)
def test_whether_a_model_thinks_is_read_off_its_template(
    model: LlamaModel, template: str, thinking: str
) -> None:
    class Vocabulary:
        chat_template = template

        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

    assert PromptEncoder(Vocabulary()).thinking == thinking


def test_the_thought_is_told_apart_from_the_json() -> None:
    said = Completion("r", '<think>\nhm\n</think>\n\n{"a": 1}', (), "stop", 1, 0, 1, 0.0, 0.0)
    apart = without_thought(said, replace(JSON, thinking="may"))
    assert (apart.text, apart.reasoning) == ('{"a": 1}', "hm")
    assert without_thought(said, JSON) == said
