"""Grammars of a call's arguments: as JSON, as Python writes them, or each between tags.

    {"city": "Oslo", "days": 2}
    city="Oslo", days=2
    <parameter=city>
    Oslo
    </parameter>

Between tags a text stands as it is, without quotation marks, and everything else is JSON.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# JSON allows any white space, but a model that has lost its way would then write only that.
_WHITESPACE = r"[ ]?|\n[ ]{0,20}"
_FLAT = {"type", "properties", "required", "additionalProperties", "title", "description"}
_DEFINITIONS = ("$defs", "definitions")  # which a schema within may refer to
_ABOUT_TEXTS = {"type", "title", "description", "default", "examples", "example", "enum", "const"}
_TAGGED_NAME = re.compile(r"[^\s<>]+")


class Around(NamedTuple):
    """What stands before, between and after the name and the value of an argument between tags.

    forbidden: a regular expression of what such a text cannot have within: it would end there.
    """

    begin: str
    between: str
    end: str
    forbidden: str


CODER = Around("<parameter=", ">\n", "\n</parameter>\n", r"<\/?(parameter|function|tool_call)")
GLM = Around("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n", r"<\/?(arg_|tool_call)")
Lark = Callable[[str], str]


def parameters(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of the arguments. What it does not name is no argument, if it names any."""
    given = function.get("parameters")
    schema = {"type": "object", **(given if isinstance(given, Mapping) else {})}
    if isinstance(schema.get("properties"), Mapping):
        schema.setdefault("additionalProperties", False)
    return schema


def as_json(rule: str, schema: Mapping[str, Any]) -> list[str]:
    """The rule of a JSON object."""
    return [f"{rule}: %json {_json(schema)}"]


def fits_python(function: Mapping[str, Any]) -> bool:
    """Whether Python can write a call: by its names, and by what the schema says of arguments."""
    schema = parameters(function)
    names = [*function["name"].split("."), *_properties(schema)]
    usable = all(name.isidentifier() and not keyword.iskeyword(name) for name in names)
    return usable and _is_flat(schema)


def as_python(rule: str, schema: Mapping[str, Any]) -> list[str]:
    """Rules of keyword arguments: the required ones, then any of the others, in order."""
    return _in_order(
        rule,
        schema,
        ", ",
        lambda part, name, about: [
            f"{part}: {json.dumps(name + '=')} {part}_value",
            f"{part}_value: %json {_json(about)}",
        ],
    )


def fits_tags(function: Mapping[str, Any]) -> bool:
    """Whether each argument can stand between tags and is held to its schema there."""
    schema = parameters(function)
    properties = _properties(schema)
    return _is_flat(schema) and all(
        _TAGGED_NAME.fullmatch(name) and (not _is_text(about) or _is_plain(about))
        for name, about in properties.items()
    )


def in_tags(rule: str, schema: Mapping[str, Any], around: Around, lark: Lark) -> list[str]:
    """Rules of arguments between tags. `lark` writes a text in Lark, with its control tokens."""

    def one(part: str, name: str, about: Mapping[str, Any]) -> list[str]:
        head = lark(f"{around.begin}{name}{around.between}")
        end = lark(around.end)
        if not _is_text(about):
            return [f"{part}: {head} {part}_value {end}", f"{part}_value: %json {_json(about)}"]
        if texts := about.get("enum", [about["const"]] if "const" in about else None):
            values = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
            return [f"{part}: {head} ({values}) {end}"]
        body = rf"/(.|\n)*/ & ~/(.|\n)*({around.forbidden})(.|\n)*/"
        if end.startswith('"'):
            return [
                f"{part}: {head} {part}_text",
                f"{part}_text[suffix={end}]: {part.upper()}",
                f"{part.upper()}: {body}",
            ]
        return [f"{part}: {head} {part.upper()} {end}", f"{part.upper()}: {body}"]

    return _in_order(rule, schema, "", one)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _is_flat(schema: Mapping[str, Any]) -> bool:
    """Whether a schema says nothing of its object but which arguments there are."""
    required = schema.get("required", [])
    return (
        not set(schema) - _FLAT - set(_DEFINITIONS)
        and not schema.get("additionalProperties")
        and isinstance(required, list)
        and set(required) <= set(_properties(schema))
    )


def _is_text(about: Any) -> bool:
    return isinstance(about, Mapping) and about.get("type") == "string"


def _is_plain(about: Mapping[str, Any]) -> bool:
    """Whether a text's schema says nothing that only JSON can be held to."""
    values = [*about.get("enum", ()), *([about["const"]] if "const" in about else ())]
    return not set(about) - _ABOUT_TEXTS and all(
        isinstance(value, str) and value == value.strip() and "<" not in value for value in values
    )


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(
        {**schema, "x-guidance": {"whitespace_pattern": _WHITESPACE}}, ensure_ascii=False
    )


def _in_order(
    rule: str,
    schema: Mapping[str, Any],
    between: str,
    rules_of: Callable[[str, str, Mapping[str, Any]], Sequence[str]],
) -> list[str]:
    """Rules of arguments: the required ones, then any of the others, in order."""
    properties = _properties(schema)
    required = schema.get("required")
    required = required if isinstance(required, list) else []
    names = sorted(properties, key=lambda name: name not in required)
    shared = {key: schema[key] for key in _DEFINITIONS if key in schema}
    separator = json.dumps(between) if between else ""
    rules: list[str] = []
    for number, name in enumerate(names):
        about = properties[name]
        rules += rules_of(
            f"{rule}_{number}", name, {**about, **shared} if isinstance(about, Mapping) else {}
        )
        rest = f"({separator} {rule}_{number})? {rule}_rest_{number + 1}"
        rules.append(f"{rule}_rest_{number}: {rest}")
    rules.append(f'{rule}_rest_{len(names)}: ""')
    num_required = sum(name in required for name in names)
    first = f" {separator} ".join(f"{rule}_{number}" for number in range(num_required))
    if first:
        return [f"{rule}: {first} {rule}_rest_{num_required}", *rules]
    any_first = [f"{rule}_{number} {rule}_rest_{number + 1}" for number in range(len(names))]
    return [" | ".join([f'{rule}: ""', *any_first]), *rules]
