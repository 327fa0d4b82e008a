"""Parses the tool calls in an answer's text.

Llama 4 writes them as a Python list, `[get_weather(city="Oslo"), f(x=1)]`, or as JSON,
`{"name": "get_weather", "parameters": {"city": "Oslo"}}`, either one with or without
`<|python_start|>` and `<|python_end|>` around it. Nothing is ever evaluated. Without these tags, an
answer that contains anything besides calls stays text.
"""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

_TAGGED = re.compile(r"<\|python_start\|>(.*?)(?:<\|python_end\|>|$)", re.DOTALL)
_CONSTANTS = {"true": True, "false": False, "null": None}  # models also use JSON's names


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call to a function; `arguments` holds JSON values."""

    name: str
    arguments: dict[str, Any]


def parse_tool_calls(
    text: str, names: Collection[str] | None = None
) -> tuple[str, tuple[ToolCall, ...]]:
    """Split an answer into its text and its calls: (content, calls).

    With tags, the content is the text before them. Otherwise there is either content or calls.
    With `names`, an answer that calls any other function stays text.
    """
    tagged = _TAGGED.search(text)
    source = tagged[1] if tagged else text
    try:
        calls = _parse(source.strip(), tagged is not None)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text, ()
    if not calls or (names is not None and any(call.name not in names for call in calls)):
        return text, ()
    return (text[: tagged.start()].strip() if tagged else ""), tuple(calls)


def _parse(source: str, tagged: bool) -> list[ToolCall]:
    """The calls that a text consists of; ValueError or SyntaxError if it has anything else."""
    if source.startswith("{") or re.match(r"\[\s*\{", source):
        return [_from_json(value) for value in _json_values(source)]
    if source.startswith("[") or tagged:
        return _from_python(source)
    raise ValueError("neither a list nor an object")


def _json_values(source: str) -> list[Any]:
    """The values of one object, a list of them, or several in a row; `;` may separate them."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    at = 0
    while at < len(source):
        value, at = decoder.raw_decode(source, at)
        values += value if isinstance(value, list) else [value]
        while at < len(source) and source[at] in " \t\r\n;":
            at += 1
    return values


def _from_json(value: Any) -> ToolCall:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    inner = value.get("function")
    function = inner if isinstance(inner, dict) else value
    arguments = function.get("parameters", function.get("arguments", {}))
    if not isinstance(function.get("name"), str) or not isinstance(arguments, dict):
        raise ValueError("not a call")
    return ToolCall(function["name"], arguments)


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
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no such number")
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError("not a JSON value")
    return value


def _key(node: ast.expr | None) -> str:
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise ValueError("not a JSON key")
    return node.value
