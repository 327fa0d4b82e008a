"""Grammars of answers that have to call a function, in the way the model's family does."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from l4cli.engine.types import Constraint
from l4cli.errors import RequestError

# JSON allows any white space, but a model that has lost its way would then write only that.
_WHITESPACE = r"[ ]?|\n[ ]{0,20}"


class _Format(NamedTuple):
    """What stands before, between and after calls, and around the arguments of one; {} is a name.

    between: None if an answer has one call only.
    """

    begin: str
    head: str
    tail: str
    end: str
    between: str | None


def _json(key: str) -> tuple[str, str]:
    return f'{{"name": "{{}}", "{key}": ', "}"


_HERMES = _Format("<tool_call>\n", *_json("arguments"), "\n</tool_call>", "\n")
_MISTRAL = _Format("[TOOL_CALLS][", *_json("arguments"), "]", ", ")
_MISTRAL_11 = _Format("[TOOL_CALLS]", "{}[ARGS]", "", "", "")
_LLAMA = _Format("", *_json("parameters"), "", None)
_PYTHON = _Format("[", "{}(", ")", "]", ", ")  # l4's own template for Llama 4
_LISTS = (_MISTRAL, _PYTHON)  # all calls stand in one pair of tags, not each in its own


def call_constraint(
    tools: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    template: str,
    special_tokens: Mapping[str, int],
) -> Constraint:
    """Answers that call one or more of the functions with these names.

    template: the source of the chat template, by which the family's format is known.
    special_tokens: the vocabulary's control tokens: some of the tags may be among them.
    """
    format = _format_of(template)
    functions = [tool.get("function", tool) for tool in tools]
    wanted = [function for function in functions if function.get("name") in names]
    if missing := set(names) - {function["name"] for function in wanted}:
        raise RequestError(f"tool_choice names {min(missing)!r}, which is not among the tools")
    if format is _PYTHON and not all(map(_fits_python, wanted)):
        format = _LLAMA
    rules = []
    for number, function in enumerate(wanted):
        head, tail = (_texts(part, function["name"], special_tokens) for part in format[1:3])
        rules.append(f"call_{number}: {head} arguments_{number} {tail}")
        if format is _PYTHON:
            rules += _keywords(f"arguments_{number}", _parameters(function))
        else:
            rules.append(f"arguments_{number}: %json {_schema(_parameters(function))}")
    begin, end = (_texts(part, "", special_tokens) for part in (format.begin, format.end))
    calls = " | ".join(f"call_{number}" for number in range(len(wanted)))
    start = f"{begin} call {end}"
    if format.between is not None:
        between = _texts(format.between, "", special_tokens)
        more = f"({between} call)* {end}" if format in _LISTS else f"{end} ({between} {start})*"
        start = f"{begin} call {more}"
    return Constraint("calls", "\n".join([f"start: {start}", f"call: {calls}", *rules]))


def _format_of(template: str) -> _Format:
    if "<tool_call>" in template:
        return _HERMES
    if "[TOOL_CALLS]" in template:
        return _MISTRAL_11 if "[ARGS]" in template else _MISTRAL
    return _PYTHON if re.search(r"\[\w+\(\w+=", template) else _LLAMA


def _texts(text: str, name: str, special_tokens: Mapping[str, int]) -> str:
    """A text in Lark; the tags in it that are control tokens stand there by their ids."""
    pieces = [text]
    for tag in ("[TOOL_CALLS]", "[ARGS]", "<tool_call>", "</tool_call>"):
        if tag in special_tokens:
            pieces = [part for piece in pieces for part in _around(piece, tag)]
    found = []
    for piece in pieces:
        if piece in special_tokens:
            found.append(f"<[{special_tokens[piece]}]>")
        elif piece:
            found.append(json.dumps(piece.replace("{}", _inner_json(name)), ensure_ascii=False))
    return " ".join(found)


def _inner_json(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)[1:-1]


def _around(text: str, tag: str) -> list[str]:
    parts = text.split(tag)
    return [piece for part in parts[:-1] for piece in (part, tag)] + parts[-1:]


def _fits_python(function: Mapping[str, Any]) -> bool:
    """Whether all names are such that Python can write a call."""
    names = [*function["name"].split("."), *(_parameters(function).get("properties") or ())]
    return all(name.isidentifier() and not keyword.iskeyword(name) for name in names)


def _parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of the arguments. What it does not name is no argument, if it names any."""
    given = function.get("parameters")
    schema = {"type": "object", **(given if isinstance(given, Mapping) else {})}
    if isinstance(schema.get("properties"), Mapping):
        schema.setdefault("additionalProperties", False)
    return schema


def _schema(schema: Mapping[str, Any]) -> str:
    return json.dumps(
        {**schema, "x-guidance": {"whitespace_pattern": _WHITESPACE}}, ensure_ascii=False
    )


def _keywords(rule: str, schema: Mapping[str, Any]) -> list[str]:
    """Rules of `city="Oslo", days=2`: the required arguments, then any of the others, in order."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    names = sorted(properties, key=lambda name: name not in required)
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    rules = []
    for number, name in enumerate(names):
        about = properties[name]
        about = {**about, **shared} if isinstance(about, Mapping) else {}
        rules.append(f"{rule}_{number}: {json.dumps(name + '=')} {rule}_value_{number}")
        rules.append(f"{rule}_value_{number}: %json {_schema(about)}")
        rules.append(f'{rule}_rest_{number}: (", " {rule}_{number})? {rule}_rest_{number + 1}')
    rules.append(f'{rule}_rest_{len(names)}: ""')
    num_required = sum(name in required for name in names)
    first = ' ", " '.join(f"{rule}_{number}" for number in range(num_required))
    if first:
        return [f"{rule}: {first} {rule}_rest_{num_required}", *rules]
    any_first = [f"{rule}_{number} {rule}_rest_{number + 1}" for number in range(len(names))]
    return [" | ".join([f'{rule}: ""', *any_first]), *rules]
