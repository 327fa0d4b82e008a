"""Rows in and out: one JSON object a line.

In:  {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}, and optionally
     id, tools, max_tokens, temperature, top_p, top_k, min_p, seed, stop
Out: {"id", "text", "finish_reason", "usage", "model"}, with "message" for "text" where the row came
     with messages; or {"id", "error": {"type", "message", "line"}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from l4cli.engine.types import Completion
from l4cli.errors import InputError, L4Error

DIGEST_BYTES = 8
_BOM = b"\xef\xbb\xbf"
_NUMBER = (int, float)
_SAMPLING: Mapping[str, tuple[type, ...]] = {
    "max_tokens": (int,),
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": (int,),
    "min_p": _NUMBER,
    "seed": (int,),
}
_FIELDS = {"id", "prompt", "messages", "tools", "stop", *_SAMPLING}
RowId = str | int


@dataclass(frozen=True, slots=True)
class Row:
    """One valid row: either `prompt` or `messages`.

    `line` counts from 1; `digest` stands for the line's number and content.
    """

    line: int
    id: RowId
    digest: bytes
    prompt: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    tools: tuple[Mapping[str, Any], ...] | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that is no valid row, with what is wrong with it."""

    line: int
    id: RowId
    digest: bytes
    error: L4Error


def read_rows(lines: Iterable[bytes], *, lenient: bool = False) -> Iterator[Row | BadRow]:
    """Rows of a JSON Lines stream, read lazily; blank lines are passed over.

    Lines end at \\n only (U+2028 inside a string is text), a BOM and CRLF are taken off. With
    `lenient`, unknown fields are ignored instead of making a bad row.
    """
    for number, line in enumerate(lines, 1):
        content = line.removeprefix(_BOM) if number == 1 else line
        content = content.strip(b" \t\r\n")
        if content:
            yield _read_row(number, content, lenient)


def answer(row: Row, completion: Completion, model: str) -> dict[str, Any]:
    """The output row of a completion."""
    if completion.finish_reason == "error":
        return failure(row, "engine", completion.error or "unknown error")
    content: dict[str, Any] = {"text": completion.text}
    if row.messages is not None:
        content = {"message": {"role": "assistant", "content": completion.text}}
    return {
        "id": row.id,
        **content,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.num_prompt_tokens,
            "cached_tokens": completion.num_cached_tokens,
            "completion_tokens": completion.num_completion_tokens,
        },
        "model": model,
    }


def failure(row: Row | BadRow, type: str, message: str) -> dict[str, Any]:
    """The output row of something that went wrong."""
    return {"id": row.id, "error": {"type": type, "message": message, "line": row.line}}


def to_line(value: Mapping[str, Any]) -> str:
    """One output line, without its newline; lone surrogates stay escaped."""
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return line


def _read_row(number: int, content: bytes, lenient: bool) -> Row | BadRow:
    id: RowId = number
    digest = hashlib.sha256(b"%d %s" % (number, content)).digest()[:DIGEST_BYTES]
    try:
        value = _parse(content)
        if isinstance(value.get("id"), (str, int)) and not isinstance(value["id"], bool):
            id = value["id"]
        return _validate(number, id, digest, value, lenient)
    except InputError as error:
        return BadRow(number, id, digest, error)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 at byte {error.start + 1} of the line") from None
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError("not JSON that can be read: nested too deeply") from None
    if not isinstance(value, dict):
        raise InputError(f"a row must be a JSON object, not {_json_type(value)}")
    return value


def _validate(number: int, id: RowId, digest: bytes, value: dict[str, Any], lenient: bool) -> Row:
    if not lenient and (unknown := value.keys() - _FIELDS):
        raise InputError(
            f"unknown field {sorted(unknown)[0]!r} (--lenient ignores it); "
            f"known: {', '.join(sorted(_FIELDS))}"
        )
    if "id" in value and id is not value["id"]:
        raise InputError(f"id must be a string or an integer, not {_json_type(value['id'])}")
    if ("prompt" in value) == ("messages" in value):
        both = "both" if "prompt" in value else "neither"
        raise InputError(f"a row needs either prompt or messages, this one has {both}")
    if "prompt" in value and not isinstance(value["prompt"], str):
        raise InputError(f"prompt must be a string, not {_json_type(value['prompt'])}")
    return Row(
        line=number,
        id=id,
        digest=digest,
        prompt=value.get("prompt"),
        messages=_messages(value["messages"]) if "messages" in value else None,
        tools=_objects("tools", value["tools"]) if value.get("tools") is not None else None,
        sampling=_sampling(value),
    )


def _messages(value: Any) -> tuple[Mapping[str, Any], ...]:
    messages = _objects("messages", value)
    if not messages:
        raise InputError("messages is empty")
    for index, message in enumerate(messages):
        if not isinstance(message.get("role"), str):
            raise InputError(f"messages[{index}] needs a role that is a string")
        content = message.get("content")
        if not isinstance(content, str) and not message.get("tool_calls"):
            raise InputError(f"messages[{index}] needs a content that is a string")
    return messages


def _objects(name: str, value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{name} must be a list of objects")
    return tuple(value)


def _sampling(value: Mapping[str, Any]) -> dict[str, Any]:
    sampling: dict[str, Any] = {}
    for name, types in _SAMPLING.items():
        given = value.get(name)
        if given is None:
            continue
        if isinstance(given, bool) or not isinstance(given, types):
            kind = "an integer" if types == (int,) else "a number"
            raise InputError(f"{name} must be {kind}, not {_json_type(given)}")
        sampling[name] = given
    stop = value.get("stop")
    if stop is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(item, str) for item in stops):
            raise InputError("stop must be a string or a list of strings")
        sampling["stop"] = tuple(stops)
    return sampling


def _refuse_constant(name: str) -> None:
    raise InputError(f"not JSON: {name} is no JSON number")


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value), "a list" if isinstance(value, list) else "an object")
