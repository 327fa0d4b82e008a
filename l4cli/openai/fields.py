"""Checks the fields that l4's own rows and OpenAI request bodies have in common.

The functions take JSON values and never coerce their types. If a field is invalid, they raise
InputError with its name. A field that is null counts as missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from l4cli.engine.types import MOST_BIAS, Constraint
from l4cli.errors import InputError
from l4cli.near import nearest
from l4cli.prompt import strict_json

MAX_CHOICES = 128
_MOST_DIGITS = 20  # of a token id
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
    """Return the fields of SamplingParams that a row sets; missing fields are left out."""
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
    """Return how many answers a row asks for: its field n, 1 by default."""
    n = value.get("n")
    if n is None:
        return 1
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_CHOICES:
        raise InputError(f"n must be an integer from 1 to {MAX_CHOICES}")
    return n


def tools(value: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...] | None:
    """Return the functions that the model may call; None if none are given or allowed."""
    given = value.get("tools")
    if given is None:
        return None
    functions = objects("tools", given)
    for index, tool in enumerate(functions):
        if tool_name(tool) is None:
            raise InputError(f"tools[{index}] needs a function with a name")
    return None if value.get("tool_choice") == "none" else functions or None


def must_call(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the functions one of which must be called; none if none must."""
    choice = value.get("tool_choice")
    if choice in (None, "none", "auto"):
        return ()
    names = tuple(name for tool in tools(value) or () if (name := tool_name(tool)))
    name = tool_name(choice) if isinstance(choice, Mapping) else None
    if choice != "required" and name is None:
        raise InputError(
            'tool_choice must be "none", "auto", "required" or a function: '
            '{"type": "function", "function": {"name": …}}'
        )
    if not names:
        raise InputError("tool_choice requires a call, but there are no tools")
    if name is not None and name not in names:
        raise InputError(f"tool_choice names {name!r}, which is not among the tools")
    return names if name is None else (name,)


def tool_name(tool: Mapping[str, Any]) -> str | None:
    """Return the name of a tool: OpenAI's {"function": {…}} or a bare function. None if missing."""
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


def messages(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return a conversation's messages, normalised.

    Each content becomes one string, the arguments of tool calls become objects, and the role
    "developer" becomes "system".
    """
    given = objects("messages", value)
    if not given:
        raise InputError("messages is empty")
    return tuple(_message(f"messages[{index}]", message) for index, message in enumerate(given))


def refuse_unknown(
    value: Mapping[str, Any], known: frozenset[str], elsewhere: Mapping[str, str] | None = None
) -> None:
    """Raise InputError for a field not in `known`: it is more likely misspelt than optional.

    elsewhere: fields that other endpoints have, with what to do instead.
    """
    if unknown := sorted(value.keys() - known):
        name = unknown[0]
        near = nearest(name, known)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        hint = (elsewhere or {}).get(name, hint)
        raise InputError(f"unknown field {name!r} (--lenient ignores it); {hint}")


def flag(name: str, value: Mapping[str, Any], default: bool) -> bool:
    """Return a field that is true or false; `default` if it is missing."""
    given = value.get(name)
    if given is None:
        return default
    if not isinstance(given, bool):
        raise InputError(f"{name} must be true or false, not {json_type(given)}")
    return given


def refuse_stream(value: Mapping[str, Any]) -> None:
    """Raise InputError for stream: true, which a row cannot have: its answer is one line."""
    if value.get("stream"):
        raise InputError("stream: true is not supported, a row's answer is one line: leave it out")


def objects(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    """Return a list of JSON objects as a tuple."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{name} must be a list of objects")
    return tuple(value)


def text(name: str, value: Any) -> str:
    """Return `value` if it is a string."""
    if not isinstance(value, str):
        raise InputError(f"{name} must be a string, not {json_type(value)}")
    return value


def json_type(value: Any) -> str:
    """Return the JSON name of a value's type, with its article: "a number"."""
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
    """Parse OpenAI's {"token id": bias}. The ids are strings because JSON has no other keys."""
    biases: list[tuple[str, Any]]
    biases = list(value.items()) if isinstance(value, dict) else [("", None)]
    for token, bias in biases:
        is_number = isinstance(bias, _NUMBER) and not isinstance(bias, bool)
        if not (token.isascii() and token.isdigit() and is_number):
            raise InputError('logit_bias must be an object such as {"128": -100}: token id to bias')
        if len(token) > _MOST_DIGITS:
            raise InputError(
                f"logit_bias has the token {token[:_MOST_DIGITS]}… of {len(token)} digits, which "
                "no vocabulary has"
            )
        if not -MOST_BIAS <= bias <= MOST_BIAS:
            raise InputError(
                f"logit_bias values must be between -{MOST_BIAS} and {MOST_BIAS}, unlike that of "
                f"token {token}"
            )
    return tuple((int(token), float(bias)) for token, bias in biases)


def _logprobs(value: Mapping[str, Any]) -> int | None:
    """Return how many of the likeliest tokens to report at each position; None for no logprobs.

    Accepts both of OpenAI's forms: `logprobs` as an integer, and `logprobs: true` with an optional
    `top_logprobs`. 0 reports the sampled token only.
    """
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
        raise InputError(f"{given[0]} and {given[1]} cannot be combined: leave one out")
    if not given:
        return {}
    if given == ["response_format"]:
        return {"constraint": response_format(value["response_format"])}
    (name,) = given
    kind: Any = name
    return {"constraint": Constraint(kind, text(name, value[name]))}


def response_format(value: Any) -> Constraint | None:
    """Return the constraint of a response_format, None for type text.

    Accepts OpenAI's forms, and the bare JSON schemas that other servers take.
    """
    if not isinstance(value, dict):
        raise InputError(f"response_format must be an object, not {json_type(value)}")
    kind = value.get("type")
    if kind == "text":
        return None  # explicitly no constraint: overrides a --schema given for all rows
    if kind == "json_schema":
        inner = value.get("json_schema", value)
        if not isinstance(inner, dict) or not isinstance(inner.get("schema"), (dict, bool)):
            raise InputError("response_format of type json_schema needs json_schema.schema")
        return schema_constraint(inner["schema"])
    if kind == "json_object" and "schema" in value:  # llama-server's form
        return schema_constraint(value["schema"])
    if kind == "json_object":
        return Constraint("json_object")
    if any(key in value for key in ("properties", "$ref", "anyOf", "items", "enum", "const")):
        return schema_constraint(value)
    raise InputError(
        "response_format must have the type text, json_object or json_schema, or be a JSON schema"
    )


def schema_constraint(schema: Any) -> Constraint:
    """Return the constraint for a JSON schema."""
    if not isinstance(schema, (dict, bool)):
        raise InputError(f"a JSON schema must be an object, not {json_type(schema)}")
    try:
        source = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        source.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("a JSON schema must not hold half of a character, as \\ud800 is") from None
    except ValueError:  # 1e999 was read as infinity
        raise InputError("a JSON schema must not hold a number too large to read") from None
    return Constraint("json_schema", source)


def _message(name: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(message.get("role"), str):
        raise InputError(f"{name} needs a role that is a string")
    changed = {**message, "content": _content(name, message)}
    if message["role"] == "developer":  # OpenAI's newer name for system
        changed["role"] = "system"
    if message.get("tool_calls") is not None:
        calls = objects(f"{name}.tool_calls", message["tool_calls"])
        changed["tool_calls"] = [
            _call(f"{name}.tool_calls[{index}]", call) for index, call in enumerate(calls)
        ]
    return changed


def _content(name: str, message: Mapping[str, Any]) -> str:
    """Return a message's text; a list of parts of type text is joined.

    An answer of OpenAI's may have a refusal in the place of its content.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message.get("tool_calls"):
        return ""
    if content is None and isinstance(refusal := message.get("refusal"), str):
        return refusal
    if not isinstance(content, list):
        raise InputError(f"{name} needs a content that is a string")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            what = f"of type {kind!r}" if kind != "text" else "without a text"
            raise InputError(f"{name} has a part {what}: only parts of type text are supported")
    return "".join(part["text"] for part in content)


def _call(name: str, call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tool call with its arguments as an object; OpenAI writes them as JSON text."""
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"{name} needs a function with a name")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            arguments = strict_json.parse(arguments or "{}", is_finite=True)
        except InputError as error:
            raise InputError(
                f"{name} has arguments that are not JSON to work with: {error}"
            ) from None
    if not isinstance(arguments, dict):
        raise InputError(f"{name} needs arguments that are an object")
    function = {**function, "arguments": arguments}
    return {**call, "function": function} if "function" in call else function
