"""The fields of a row that bare rows and OpenAI bodies have in common: checked, never coerced.

Every function takes JSON values as they came and raises InputError with the field's name. A null
stands for a field that is not given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from l4cli.engine.types import Constraint
from l4cli.errors import InputError

MAX_CHOICES = 128
_NUMBER: tuple[type, ...] = (int, float)
SCALARS: Mapping[str, tuple[type, ...]] = {
    "max_tokens": (int,),
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": (int,),
    "min_p": _NUMBER,
    "seed": (int,),
    "ignore_eos": (bool,),
    "repetition_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "presence_penalty": _NUMBER,
}
_KINDS: Mapping[tuple[type, ...], str] = {
    (int,): "an integer",
    _NUMBER: "a number",
    (bool,): "true or false",
}
_CONSTRAINTS = ("response_format", "grammar", "regex")
SAMPLING = frozenset((*SCALARS, *_CONSTRAINTS, "stop", "logit_bias", "logprobs", "top_logprobs"))


def sampling(value: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of SamplingParams that a row sets; what it leaves out is not in the result."""
    given = {
        name: _scalar(name, value[name], types)
        for name, types in SCALARS.items()
        if value.get(name) is not None
    }
    if value.get("stop") is not None:
        given["stop"] = _stop(value["stop"])
    if value.get("logit_bias") is not None:
        given["logit_bias"] = _logit_bias(value["logit_bias"])
    if (logprobs := _logprobs(value)) is not None:
        given["logprobs"] = logprobs
    return given | _constraint(value)


def choices(value: Mapping[str, Any]) -> int:
    """How many answers a row wants."""
    n = value.get("n")
    if n is None:
        return 1
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_CHOICES:
        raise InputError(f"n must be an integer from 1 to {MAX_CHOICES}")
    return n


def tools(value: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    """The functions the model may call; none where tool_choice forbids calls."""
    given = value.get("tools")
    choice = value.get("tool_choice")
    if choice not in (None, "none", "auto"):
        raise InputError('tool_choice must be "none" or "auto": a call cannot be forced')
    if given is None:
        return None
    functions = objects("tools", given)
    for index, tool in enumerate(functions):
        if tool_name(tool) is None:
            raise InputError(f"tools[{index}] needs a function with a name")
    return None if choice == "none" else functions or None


def tool_name(tool: Mapping[str, Any]) -> str | None:
    """The name of a function, written as OpenAI does or bare."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def messages(value: Any) -> tuple[Mapping[str, Any], ...]:
    """A conversation, its contents as texts and its calls' arguments as objects."""
    given = objects("messages", value)
    if not given:
        raise InputError("messages is empty")
    return tuple(_message(f"messages[{index}]", message) for index, message in enumerate(given))


def refuse_unknown(value: Mapping[str, Any], known: frozenset[str]) -> None:
    """A field nobody knows is more likely misspelt than meant to be ignored."""
    if unknown := value.keys() - known:
        raise InputError(
            f"unknown field {sorted(unknown)[0]!r} (--lenient ignores it); "
            f"known: {', '.join(sorted(known))}"
        )


def refuse_stream(value: Mapping[str, Any]) -> None:
    """A row asks for a stream in vain: its answer is one line."""
    if value.get("stream"):
        raise InputError("stream: true is not for files, where an answer is one line: leave it out")


def objects(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """A list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{name} must be a list of objects")
    return tuple(value)


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, not {json_type(value)}")
    return value


def json_type(value: Any) -> str:
    """What JSON calls the type of a value, with its article."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")


def _scalar(name: str, value: Any, types: tuple[type, ...]) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise InputError(f"{name} must be {_KINDS[types]}, not {json_type(value)}")
    if value in (math.inf, -math.inf):
        raise InputError(f"{name} is too large a number")
    return value


def _stop(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(item, str) for item in stops):
        raise InputError("stop must be a string or a list of strings")
    return tuple(stops)


def _logit_bias(value: Any) -> tuple[tuple[int, float], ...]:
    """OpenAI's {"token id": bias}; JSON knows no other keys than strings."""
    biases: list[tuple[str, Any]]
    biases = list(value.items()) if isinstance(value, dict) else [("", None)]
    for token, bias in biases:
        is_number = isinstance(bias, _NUMBER) and not isinstance(bias, bool)
        if not (token.isascii() and token.isdigit() and is_number):
            raise InputError('logit_bias must be an object such as {"128": -100}: token id to bias')
    return tuple((int(token), float(bias)) for token, bias in biases)


def _logprobs(value: Mapping[str, Any]) -> int | None:
    """How many likeliest tokens to show: `logprobs` true or a number, `top_logprobs` a number."""
    logprobs, top = value.get("logprobs"), value.get("top_logprobs")
    if logprobs is not None and not isinstance(logprobs, int):
        raise InputError(f"logprobs must be true, false or an integer, not {json_type(logprobs)}")
    if top is not None:
        if isinstance(top, bool) or not isinstance(top, int):
            raise InputError(f"top_logprobs must be an integer, not {json_type(top)}")
        if logprobs is not True:
            raise InputError("top_logprobs needs logprobs: true")
        return top
    if logprobs is None or logprobs is False:
        return None
    return 0 if logprobs is True else logprobs


def _constraint(value: Mapping[str, Any]) -> dict[str, Constraint | None]:
    given = [name for name in _CONSTRAINTS if value.get(name) is not None]
    if len(given) > 1:
        raise InputError(f"{given[0]} and {given[1]} cannot both hold: leave one out")
    if not given:
        return {}
    if given == ["response_format"]:
        return {"constraint": response_format(value["response_format"])}
    (name,) = given
    kind: Any = name
    return {"constraint": Constraint(kind, text(name, value[name]))}


def response_format(value: Any) -> Constraint | None:
    """The constraint of a response_format: OpenAI's, and the bare schemas other servers take."""
    if not isinstance(value, dict):
        raise InputError(f"response_format must be an object, not {json_type(value)}")
    kind = value.get("type")
    if kind == "text":
        return None  # expressly none, also where --schema sets one for all rows
    if kind == "json_schema":
        inner = value.get("json_schema", value)
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), (dict, bool)):
            raise InputError("response_format of type json_schema needs json_schema.schema")
        return schema_constraint(inner["schema"])
    if kind == "json_object" and "schema" in value:  # as llama-server has it
        return schema_constraint(value["schema"])
    if kind == "json_object":
        return Constraint("json_object")
    if any(key in value for key in ("properties", "$ref", "anyOf", "items", "enum", "const")):
        return schema_constraint(value)
    raise InputError(
        "response_format must have the type text, json_object or json_schema, or be a JSON schema"
    )


def schema_constraint(schema: Any) -> Constraint:
    """The constraint that a JSON schema makes."""
    if not isinstance(schema, (dict, bool)):
        raise InputError(f"a JSON schema must be an object, not {json_type(schema)}")
    return Constraint("json_schema", json.dumps(schema, ensure_ascii=False))


def _message(name: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(message.get("role"), str):
        raise InputError(f"{name} needs a role that is a string")
    changed = {**message, "content": _content(name, message)}
    if message["role"] == "developer":  # OpenAI's newer name
        changed["role"] = "system"
    if message.get("tool_calls") is not None:
        calls = objects(f"{name}.tool_calls", message["tool_calls"])
        changed["tool_calls"] = [
            _call(f"{name}.tool_calls[{index}]", call) for index, call in enumerate(calls)
        ]
    return changed


def _content(name: str, message: Mapping[str, Any]) -> str:
    """A message's text; parts of type text are put together."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message.get("tool_calls"):
        return ""
    if not isinstance(content, list):
        raise InputError(f"{name} needs a content that is a string")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            what = f"of type {kind!r}" if kind != "text" else "without a text"
            raise InputError(f"{name} has a part {what}: only parts of type text can be read")
    return "".join(part["text"] for part in content)


def _call(name: str, call: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call whose arguments are an object: OpenAI writes them as JSON text."""
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"{name} needs a function with a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise InputError(f"{name} has arguments that are not JSON") from None
    if not isinstance(arguments, dict):
        raise InputError(f"{name} needs arguments that are an object")
    function = {**function, "arguments": arguments}
    return {**call, "function": function} if "function" in call else function
