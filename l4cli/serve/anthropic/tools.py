"""Reads `tools` and `tool_choice` of a body of Anthropic's /v1/messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from l4cli.errors import InputError
from l4cli.openai import fields


class Tools(NamedTuple):
    """The functions that an answer may call, in the form that chat templates know.

    functions: None for none.
    must_call: the names of those one of which must be called; empty if none must.
    most_calls: how many calls an answer may have; None for no limit.
    """

    functions: tuple[Mapping[str, Any], ...] | None = None
    must_call: tuple[str, ...] = ()
    most_calls: int | None = None


def tools(body: Mapping[str, Any]) -> Tools:
    """Return what a body says of tools. InputError if it is wrong."""
    given = body.get("tools")
    functions = tuple(
        _function(f"tools[{index}]", tool)
        for index, tool in enumerate(fields.objects("tools", [] if given is None else given))
    )
    names = tuple(function["function"]["name"] for function in functions)
    choice = body.get("tool_choice")
    if choice is None:
        return Tools(functions or None)
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind not in ("auto", "any", "tool", "none"):
        raise InputError('tool_choice must be {"type": …} with auto, any, none or tool and a name')
    if kind == "none":
        return Tools()
    most = 1 if fields.flag("disable_parallel_tool_use", choice, False) else None
    if kind == "auto":
        return Tools(functions or None, (), most)
    if not names:
        raise InputError("tool_choice requires a call, but there are no tools")
    if kind == "any":
        return Tools(functions, names, most)
    name = choice.get("name")
    if name not in names:
        raise InputError(f"tool_choice names {name!r}, which is not among the tools")
    return Tools(functions, (name,), most)


def _function(place: str, tool: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = tool.get("type")
    if kind not in (None, "custom"):
        raise InputError(
            f"{place} has the type {kind!r}, which needs Anthropic's servers: this server takes "
            "tools with a name and an input_schema"
        )
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise InputError(f"{place}.input_schema must be an object")
    name = fields.text(f"{place}.name", tool.get("name"))
    if not name:
        raise InputError(f"{place}.name is empty")
    function = {"name": name, "parameters": schema}
    if tool.get("description") is not None:
        function["description"] = fields.text(f"{place}.description", tool["description"])
    return {"type": "function", "function": function}
