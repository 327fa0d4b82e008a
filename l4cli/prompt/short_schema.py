"""The short form of a JSON Schema, for command lines: `name, age int, tags [str]`. Pure.

    field   = name [type] [":" description]
    type    = "str" | "int" | "float" | "bool" | word "|" word {"|" word} | "[" type "]"

Fields are separated by commas, or by line breaks if there is one; then a description may have
commas. A field without a type is a str. Words with | between them are a choice: the value of
`mood good|bad` is one of the two. The program `llm` has the same form, without lists and choices.
"""

from __future__ import annotations

import re
from typing import Any

from l4cli.errors import InputError

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_KNOWN = "str, int, float, bool, a choice such as good|bad, or a list such as [str]"
_FIELD = re.compile(r"(?P<name>\S+)(?:\s+(?P<type>\[.*\]|\S+))?(?:\s+(?P<more>.+))?", re.DOTALL)


def schema_of(text: str) -> dict[str, Any]:
    """Return the JSON Schema of an object with exactly these fields.

    Raises InputError, which names the field.
    """
    properties: dict[str, Any] = {}
    pieces = text.split("\n" if "\n" in text.strip() else ",")
    for number, piece in enumerate(filter(str.strip, pieces), 1):
        head, _, description = piece.strip().partition(":")
        where = f"field {number}, {piece.strip()!r}"
        name, kind = _parsed(head.strip(), where)
        if name in properties:
            raise InputError(f"{where}: {name!r} is there already")
        properties[name] = kind
        if description.strip():
            properties[name]["description"] = description.strip()
    if not properties:
        raise InputError("no field in it; write one as in: name, age int")
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _parsed(head: str, where: str) -> tuple[str, dict[str, Any]]:
    match = _FIELD.fullmatch(re.sub(r"\s*\|\s*", "|", head))
    if not match:
        raise InputError(f"{where}: a field needs a name before the colon")
    if match["more"]:
        raise InputError(f"{where}: {match['more']!r} is too much; a description follows a colon")
    if match["name"][0] in "[{\"'" or "|" in match["name"]:
        raise InputError(f"{where}: {match['name']!r} is not a name; a type follows its name")
    return match["name"], _typed(match["type"] or "str", where)


def _typed(kind: str, where: str) -> dict[str, Any]:
    if kind.startswith("[") and kind.endswith("]") and kind[1:-1].strip():
        return {"type": "array", "items": _typed(kind[1:-1].strip(), where)}
    if "|" in kind:
        return {"type": "string", "enum": _choice(kind, where)}
    if kind not in _TYPES:
        raise InputError(f"{where}: no type {kind!r}; a type is {_KNOWN}")
    return {"type": _TYPES[kind]}


def _choice(kind: str, where: str) -> list[str]:
    """Return the words of a choice. Raises InputError for what may have been meant otherwise."""
    words = kind.split("|")
    if not all(words):
        raise InputError(f"{where}: a word is missing beside a |; a choice is as in good|bad")
    for word in words:
        if word in _TYPES or word[0] in "[{\"'" or word[-1] in "]}\"'":
            raise InputError(f"{where}: {word!r} cannot be one of a choice; its words are plain")
    if len(set(words)) < len(words):
        raise InputError(f"{where}: a word is there twice in {kind!r}")
    return words
