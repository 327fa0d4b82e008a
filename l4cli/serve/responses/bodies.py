"""Reads the request bodies of OpenAI's /v1/responses.

A field that would change the answer, and is not supported, is an error. The functions raise
InputError, with a message that begins with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.errors import InputError
from l4cli.openai import fields, wishes
from l4cli.openai.bodies import Body
from l4cli.serve.responses.input import Item, conversation, items

# These fields do not change an answer: they concern OpenAI's accounting, caches and servers.
_PASSED_OVER = {
    "model",
    "max_tool_calls",  # of OpenAI's own tools
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "stream_options",
    "user",
}
# Each of these is accepted only with a value that asks for nothing.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "background": (False,),
    "context_management": ([],),
    "conversation": (),
    "prompt": (),
    "truncation": ("disabled",),
}
_SAMPLING = (frozenset(fields.SCALARS) - {"max_tokens"}) | {"stop"}
_FIELDS = frozenset(_PASSED_OVER | _ONLY.keys() | _SAMPLING) | {
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "parallel_tool_calls",
    "previous_response_id",
    "reasoning",
    "store",
    "stream",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
}
# Of `reasoning`. A summary is what the model thought: there is no other one.
_REASONING = {"effort", "summary", "generate_summary"}
# What can be asked for beside the answer. Ours has no parts of the other kinds.
_LOGPROBS = "message.output_text.logprobs"
_CHOICES = '"none", "auto", "required", a function or allowed_tools'


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for.

    body: the same in the words of chat completions.
    items: all items of the conversation so far.
    stores: whether the response is kept for those that follow it.
    """

    body: Body
    items: tuple[Item, ...]
    stores: bool


def previous_id(body: Mapping[str, Any]) -> str | None:
    """Return the id of the response that this one follows; None if there is none."""
    given = body.get("previous_response_id")
    return None if given is None else fields.text("previous_response_id", given)


def read(body: Mapping[str, Any], before: Sequence[Item], *, lenient: bool = False) -> Asked:
    """Return what a body asks for.

    before: the items of the responses that this one follows.
    lenient: ignore unknown fields.
    """
    if not lenient:
        fields.refuse_unknown(body, _FIELDS)
    for name, harmless in _ONLY.items():
        if body.get(name) not in (None, *harmless):
            hint = ": nothing is ever cut from a prompt" if name == "truncation" else ""
            raise InputError(f"{name} of {body[name]!r} is not supported{hint}"[:200])
    given = items(body.get("input"))
    instructions = body.get("instructions")
    if instructions is not None:
        fields.text("instructions", instructions)
    functions, must_call = _tools(body)
    asked = Body(
        messages=conversation(before, given, instructions),
        tools=functions or None,
        must_call=must_call,
        most_calls=None if fields.flag("parallel_tool_calls", body, True) else 1,
        sampling=_sampling(body),
        stream=fields.flag("stream", body, False),
        thinks=_thinks(body.get("reasoning"), lenient=lenient),
        verbosity=wishes.verbosity("text.verbosity", (body.get("text") or {}).get("verbosity")),
    )
    return Asked(asked, (*before, *given), fields.flag("store", body, True))


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    sampling = fields.sampling({name: body.get(name) for name in _SAMPLING})
    most = body.get("max_output_tokens")
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise InputError("max_output_tokens must be an integer of at least 1")
        sampling["max_tokens"] = most
    text = body.get("text")
    if text is not None:
        if not isinstance(text, dict):
            raise InputError(f"text must be an object, not {fields.json_type(text)}")
        if unknown := text.keys() - {"format", "verbosity"}:
            raise InputError(f"text.{min(unknown)} is not supported")
        if text.get("format") is not None:
            try:
                sampling["constraint"] = fields.response_format(text["format"])
            except InputError as error:
                raise InputError(f"text.format: {error}") from None
    if (logprobs := _logprobs(body)) is not None:
        sampling["logprobs"] = logprobs
    return sampling


def _logprobs(body: Mapping[str, Any]) -> int | None:
    include, top = body.get("include"), body.get("top_logprobs")
    if include is not None and not (
        isinstance(include, list) and all(isinstance(one, str) for one in include)
    ):
        raise InputError("include must be a list of strings")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int)):
        raise InputError("top_logprobs must be an integer")
    if top is None:
        return 0 if _LOGPROBS in (include or ()) else None
    return top if top or _LOGPROBS in (include or ()) else None


def _thinks(reasoning: Any, *, lenient: bool) -> bool | str | None:
    """Whether the model is to think first, or how hard; None for as it likes."""
    if reasoning is None:
        return None
    if not isinstance(reasoning, dict):
        raise InputError(f"reasoning must be an object, not {fields.json_type(reasoning)}")
    if not lenient and (unknown := reasoning.keys() - _REASONING):
        raise InputError(f"reasoning.{min(unknown)} is not supported")
    return wishes.effort("reasoning.effort", reasoning.get("effort"))


def _tools(body: Mapping[str, Any]) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """Return the functions that may be called, and the names of those one of which must be."""
    given = body.get("tools")
    functions = {}
    for index, tool in enumerate(fields.objects("tools", [] if given is None else given)):
        function = _function(f"tools[{index}]", tool)
        functions[function["function"]["name"]] = function
    choice = body.get("tool_choice")
    if choice is None or choice == "auto":
        return tuple(functions.values()), ()
    if choice == "none":
        return (), ()
    is_object = isinstance(choice, Mapping)
    if is_object and choice.get("type") == "allowed_tools":
        names = [
            _known(tool.get("name"), functions)
            for tool in fields.objects("tool_choice.tools", choice.get("tools"))
        ]
        functions = {name: functions[name] for name in names}
        must = choice.get("mode") == "required"
    elif is_object and choice.get("type") == "function":
        return tuple(functions.values()), (_known(choice.get("name"), functions),)
    elif choice == "required":
        must = True
    else:
        raise InputError(f"tool_choice must be {_CHOICES}")
    if must and not functions:
        raise InputError("tool_choice requires a call, but there are no tools")
    return tuple(functions.values()), tuple(functions) if must else ()


def _known(name: Any, functions: Mapping[str, Any]) -> str:
    if not isinstance(name, str) or name not in functions:
        raise InputError(f"tool_choice names {name!r}, which is not among the tools")
    return name


def _function(place: str, tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function in the form that chat templates know."""
    if tool.get("type") != "function":
        raise InputError(
            f"{place} has the type {tool.get('type')!r}: this server takes tools of type function"
        )
    function: dict[str, Any] = {"name": fields.text(f"{place}.name", tool.get("name"))}
    if not function["name"]:
        raise InputError(f"{place}.name is empty")
    if tool.get("description") is not None:
        function["description"] = fields.text(f"{place}.description", tool["description"])
    if (parameters := tool.get("parameters")) is not None:
        if not isinstance(parameters, dict):
            raise InputError(f"{place}.parameters must be an object")
        function["parameters"] = parameters
    return {"type": "function", "function": function}
