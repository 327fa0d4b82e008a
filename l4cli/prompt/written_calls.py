"""Reads calls as families write them: as JSON, as Python, or with tags around each argument.

Nothing is ever evaluated. What is no call raises one of UNREADABLE.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from l4cli.prompt import strict_json

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
_CONSTANTS = {"true": True, "false": False, "null": None}  # models also use JSON's names
MISTRAL = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\][^\[{]*)?(?:\[ARGS\])?\s*(?=\{)")
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


Texts = Collection[tuple[str, str]]  # functions and those of their arguments that are texts


def in_tags(kind: str, name: str | None, texts: Texts) -> Callable[[str], list[ToolCall]]:
    """What reads the calls between tags of a kind (`call_tags.py`); `name`: the one in the tag."""

    def read(inner: str) -> list[ToolCall]:
        return _between_tags(kind, name, inner.strip(), texts)

    return read


def _between_tags(kind: str, name: str | None, inner: str, texts: Texts) -> list[ToolCall]:
    if kind == "function":
        assert name
        if "<parameter=" in inner:
            return [_from_coder(f"<function={name}>{inner}</function>", texts)]
        return [ToolCall(name, arguments_of(inner or "{}"))]
    if kind == "mistral":
        return calls_of(inner) if inner.startswith(("[", "{")) else from_mistral(inner)
    if kind == "deepseek":
        found = _DEEPSEEK.fullmatch(inner)
        if not found:
            raise ValueError("not a call")
        return [ToolCall(found["name"], arguments_of(found["json"].strip() or "{}"))]
    if inner.startswith("<function="):
        return [_from_coder(inner, texts)]
    if kind == "hermes" and not inner.startswith(("{", "[")):
        return [_from_glm(inner, texts)]
    return calls_of(inner, may_be_bare=True)


def calls_of(source: str, *, may_be_bare: bool = False) -> list[ToolCall]:
    """The calls that a text consists of; ValueError or SyntaxError if it has anything else.

    may_be_bare: whether a call in Python may stand there without the brackets of a list.
    """
    if source.startswith("{") or re.match(r"\[\s*\{", source):
        return [_from_json(value) for value in _json_values(source)]
    if source.startswith("[") or may_be_bare:
        return _from_python(source)
    raise ValueError("neither a list nor an object")


def arguments_of(value: Any) -> dict[str, Any]:
    """The arguments of a call, which may be written as JSON text."""
    if isinstance(value, str):
        value = strict_json.loads(value)
    if not isinstance(value, dict):
        raise ValueError("not a call")
    return value


def from_mistral(text: str) -> list[ToolCall]:
    """`f[ARGS]{…}`, also several in a row."""
    calls, at = [], 0
    while named := MISTRAL.match(text, at):
        value, at = strict_json.DECODER.raw_decode(text, named.end())
        calls.append(ToolCall(named[1], arguments_of(value)))
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
    return ToolCall(function["name"], {} if given is None else arguments_of(given))


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
