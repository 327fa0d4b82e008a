"""Parses the tool calls in an answer's text, in the ways of all families (`call_tags.py`).

Beside calls in tags there are answers that consist of calls: a Python list,
`[get_weather(city="Oslo")]`, or JSON, `{"name": "get_weather", "parameters": {"city": "Oslo"}}`,
also in a fence of Markdown at the end of an answer. What a model thought before, up to `</think>`,
calls nothing. Nothing is ever evaluated, and text that only looks like a call stays text.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from l4cli.engine.channels import Said
from l4cli.prompt import strict_json
from l4cli.prompt.call_tags import BLOCKS, FENCES, OPEN_THOUGHT, THOUGHT

_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what is no call, as raised
_CONSTANTS = {"true": True, "false": False, "null": None}  # models also use JSON's names
_MISTRAL = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")
_DEEPSEEK = re.compile(
    r"(?:function<｜tool▁sep｜>)?(?P<name>[\w.-]+)(?:<｜tool▁sep｜>)?\s*(?:```json)?(?P<json>.*?)(?:```)?",
    re.DOTALL,
)
_CODER = re.compile(r"\s*<function=([\w.-]+)>(.*?)(?:</function>\s*|$)", re.DOTALL)
_PARAMETER = re.compile(
    r"\s*<parameter=([^>]+)>\n?((?:(?!<parameter=).)*?)\n?</parameter>\s*", re.DOTALL
)
_GLM = re.compile(r"\s*([\w.-]+)\s*((?:<arg_key>.*)?)", re.DOTALL)
_GLM_ARGUMENT = re.compile(
    r"\s*<arg_key>([^<]*)</arg_key>\s*<arg_value>((?:(?!<arg_key>).)*?)</arg_value>\s*", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call to a function; `arguments` holds JSON values."""

    name: str
    arguments: dict[str, Any]


Texts = Collection[tuple[str, str]]


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
    thought = THOUGHT.match(text)
    start = thought.end() if thought else 0
    if not thought and OPEN_THOUGHT.match(text):
        return text, ()
    try:
        content, calls = _split(text[start:], names, texts)
    except _UNREADABLE:
        return text, ()
    if not calls or (names is not None and any(call.name not in names for call in calls)):
        return text, ()
    return (text[:start] + content).strip(), tuple(calls)


def calls_in_channels(said: Said, names: Collection[str]) -> tuple[ToolCall, ...]:
    """The calls of an answer in channels; none if any is damaged, or of a function not in names."""
    try:
        calls = [ToolCall(name, _arguments(text.strip() or "{}")) for name, text in said.calls]
    except _UNREADABLE:
        return ()
    return tuple(calls) if all(call.name in names for call in calls) else ()


def _split(text: str, names: Collection[str] | None, texts: Texts) -> tuple[str, list[ToolCall]]:
    """The text around the calls, and the calls; ValueError or SyntaxError if something is wrong."""
    if calls := _only_calls(text.strip()):  # first, since an argument may quote a tag
        return "", calls
    if blocks := list(BLOCKS.finditer(text)):
        content, at = "", 0
        for block in blocks:
            content += text[at : block.start()]
            at = block.end()
        return content + text[at:], [call for block in blocks for call in _tagged(block, texts)]
    if names is not None and (fences := list(FENCES.finditer(text))):
        if text[fences[-1].end() :].strip():
            raise ValueError("something follows the fence")
        return text[: fences[0].start()], [
            call for fence in fences for call in _calls(fence[1].strip(), may_be_bare=True)
        ]
    if names is not None and (named := _MISTRAL.match(text)) and named[1] in names:
        return "", _from_mistral(text)
    raise ValueError("no calls")


def _only_calls(source: str) -> list[ToolCall]:
    """The calls that an answer consists of, or nothing if it has anything else."""
    try:
        return _calls(source)
    except _UNREADABLE:
        return []


def _tagged(block: re.Match[str], texts: Texts) -> Iterable[ToolCall]:
    """The calls in one block of tags."""
    inner = (block[block.lastgroup] if block.lastgroup else "").strip()
    if block["name"]:
        if "<parameter=" in inner:
            return [_from_coder(f"<function={block['name']}>{inner}</function>", texts)]
        return [ToolCall(block["name"], _arguments(inner or "{}"))]
    if block["mistral"] is not None:
        return _calls(inner) if inner.startswith(("[", "{")) else _from_mistral(inner)
    if block["deepseek"] is not None:
        found = _DEEPSEEK.fullmatch(inner)
        if not found:
            raise ValueError("not a call")
        return [ToolCall(found["name"], _arguments(found["json"].strip() or "{}"))]
    if inner.startswith("<function="):
        return [_from_coder(inner, texts)]
    if block["hermes"] is not None and not inner.startswith(("{", "[")):
        return [_from_glm(inner, texts)]
    return _calls(inner, may_be_bare=True)


def _calls(source: str, *, may_be_bare: bool = False) -> list[ToolCall]:
    """The calls that a text consists of; ValueError or SyntaxError if it has anything else.

    may_be_bare: whether a call in Python may stand there without the brackets of a list.
    """
    if source.startswith("{") or re.match(r"\[\s*\{", source):
        return [_from_json(value) for value in _json_values(source)]
    if source.startswith("[") or may_be_bare:
        return _from_python(source)
    raise ValueError("neither a list nor an object")


def _arguments(value: Any) -> dict[str, Any]:
    """The arguments of a call, which may be written as JSON text."""
    if isinstance(value, str):
        value = strict_json.loads(value)
    if not isinstance(value, dict):
        raise ValueError("not a call")
    return value


def _from_mistral(text: str) -> list[ToolCall]:
    """`f[ARGS]{…}`, also several in a row."""
    calls, at = [], 0
    while named := _MISTRAL.match(text, at):
        value, at = strict_json.DECODER.raw_decode(text, named.end())
        calls.append(ToolCall(named[1], _arguments(value)))
    if text[at:].strip():
        raise ValueError("not a call")
    return calls


def _from_coder(text: str, texts: Texts) -> ToolCall:
    """`<function=f>` with a `<parameter=x>` for each argument."""
    found = _CODER.fullmatch(text)
    if not found or _PARAMETER.sub("", found[2]).strip():
        raise ValueError("not a call")
    return _loose_call(found[1], _PARAMETER.findall(found[2]), texts)


def _from_glm(text: str, texts: Texts) -> ToolCall:
    """The name, and an `<arg_key>` and `<arg_value>` for each argument."""
    found = _GLM.fullmatch(text)
    if not found or _GLM_ARGUMENT.sub("", found[2]).strip():
        raise ValueError("not a call")
    return _loose_call(found[1], _GLM_ARGUMENT.findall(found[2]), texts)


def _loose_call(name: str, arguments: Iterable[tuple[str, str]], texts: Texts) -> ToolCall:
    return ToolCall(name, {k: v if (name, k) in texts else _loose(v) for k, v in arguments})


def _loose(text: str) -> Any:
    """The value of an argument that is JSON, or else a text as it stands."""
    try:
        return strict_json.loads(text)
    except ValueError:
        return text


def _json_values(source: str) -> list[Any]:
    """The values of one object, a list of them, or several in a row; `;` may separate them."""
    values: list[Any] = []
    at = 0
    while at < len(source):
        value, at = strict_json.DECODER.raw_decode(source, at)
        values += value if isinstance(value, list) else [value]
        while at < len(source) and source[at] in " \t\r\n;":
            at += 1
    return values


def _from_json(value: Any) -> ToolCall:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    inner = value.get("function")
    function = inner if isinstance(inner, dict) else value
    if not isinstance(function.get("name"), str):
        raise ValueError("not a call")
    given = next((function[key] for key in ("parameters", "arguments") if key in function), None)
    return ToolCall(function["name"], {} if given is None else _arguments(given))


def _from_python(source: str) -> list[ToolCall]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes such as "\d", which Python does not change
        tree = ast.parse(source, mode="eval").body
    calls = tree.elts if isinstance(tree, ast.List) else [tree]
    return [_call(node) for node in calls]


def _call(node: ast.expr) -> ToolCall:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("not a call with named arguments")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in arguments:
            raise ValueError("arguments must have a name each")
        arguments[keyword.arg] = _value(keyword.value)
    return ToolCall(_dotted(node.func), arguments)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("not a function's name")


def _value(node: ast.expr) -> Any:
    """The JSON value of a literal."""
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {_key(key): _value(item) for key, item in zip(node.keys, node.values, strict=True)}
    value = ast.literal_eval(node)
    if isinstance(value, str) and not value.isascii():  # two escapes of JSON may be one character
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no such number")
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError("not a JSON value")
    return value


def _key(node: ast.expr | None) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError("not a JSON key")
    return node.value
