"""Reads the request bodies of Anthropic's /v1/messages and /v1/messages/count_tokens.

A field that would change the answer, and is not supported, is an error. The functions raise
InputError, with a message that begins with the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from l4cli.errors import InputError
from l4cli.openai import fields, wishes
from l4cli.openai.bodies import Body
from l4cli.serve.anthropic.blocks import conversation
from l4cli.serve.anthropic.tools import tools

# These fields do not change an answer: they concern Anthropic's accounting, caches and servers.
_PASSED_OVER = {
    "model",
    "metadata",
    "service_tier",
    "cache_control",
    "inference_geo",
    "speed",
    "user_profile_id",
    "workspace_id",
}
_EMPTY_ONLY = {"container", "mcp_servers"}  # they need Anthropic's servers
_FIELDS = frozenset(_PASSED_OVER | _EMPTY_ONLY) | {
    "messages",
    "system",
    "max_tokens",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "context_management",
    "thread",
}
_THINKING = {"enabled": True, "disabled": False, "adaptive": None}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for.

    body: the same in OpenAI's words, but for `max_tokens`.
    max_tokens: the most tokens of the answer; None for no limit. What the context has no room for
        is left out, and the answer's stop_reason says so.
    shows_thoughts: whether the answer has what was thought.
    effort: how hard the model is to think, a signal more than an order; None for the usual.
    """

    body: Body
    max_tokens: int | None = None
    shows_thoughts: bool = True
    effort: str | None = None


def read(body: Mapping[str, Any], *, lenient: bool = False) -> Asked:
    """Return what a body asks for.

    lenient: ignore unknown fields.
    """
    if not lenient:
        fields.refuse_unknown(body, _FIELDS)
    for name in sorted(_EMPTY_ONLY):
        if body.get(name):
            raise InputError(f"{name} is not supported")
    _check_context_management(body.get("context_management"))
    sampling = _sampling(body)
    max_tokens = sampling.pop("max_tokens", None)
    thinks, shows_thoughts = _thinking(body.get("thinking"))
    offered = tools(body)
    asked = Body(
        messages=conversation(body.get("system"), body.get("messages")),
        tools=offered.functions,
        must_call=offered.must_call,
        most_calls=offered.most_calls,
        sampling=sampling,
        stream=fields.flag("stream", body, False),
        thinks=thinks,
    )
    return Asked(_with_begun(asked), max_tokens, shows_thoughts, _effort(body.get("output_config")))


def _with_begun(body: Body) -> Body:
    """The body with an assistant's message at its end taken for the beginning of the answer."""
    *before, last = body.messages or ()
    if last["role"] != "assistant":
        return body
    if last.get("tool_calls"):
        raise InputError("messages ends with a tool_use: its tool_result is missing")
    if "reasoning_content" in last:
        raise InputError("messages ends with a thought: an answer cannot begin with one")
    if not before:
        raise InputError("messages has nothing to answer")
    return replace(body, messages=tuple(before), begun=last["content"])


def _sampling(body: Mapping[str, Any]) -> dict[str, Any]:
    names = ("max_tokens", "temperature", "top_p", "top_k")
    sampling = fields.sampling({name: body.get(name) for name in names})
    if (most := sampling.get("max_tokens")) is not None and most < 1:
        raise InputError("max_tokens must be at least 1")
    stops = body.get("stop_sequences")
    if stops is not None:
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            raise InputError("stop_sequences must be a list of strings")
        if not all(stops):
            raise InputError("stop_sequences must not have an empty string")
        sampling["stop"] = tuple(stops)
    if (constraint := _output_format(body.get("output_config"))) is not None:
        sampling["constraint"] = constraint
    return sampling


def _output_format(config: Any) -> Any:
    """Return the constraint of output_config; None for none."""
    if config is None:
        return None
    if not isinstance(config, dict):
        raise InputError(f"output_config must be an object, not {fields.json_type(config)}")
    if unknown := config.keys() - {"format", "effort"}:
        raise InputError(f"output_config.{min(unknown)} is not supported")
    wanted = config.get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise InputError("output_config.format must have the type json_schema")
    return fields.schema_constraint(wanted.get("schema"))


def _effort(config: Any) -> str | None:
    """Return the effort of output_config; None for the usual."""
    wish = wishes.effort("output_config.effort", (config or {}).get("effort"))
    if wish is False:
        raise InputError('output_config.effort has no "none": disable thinking instead')
    return wish if isinstance(wish, str) else None


def _thinking(value: Any) -> tuple[bool | None, bool]:
    """Return whether the model is to think first, None for as it likes, and whether to show it.

    Anthropic calls budget_tokens a target, and here the model decides how long it thinks.
    """
    if value is None:
        return None, True
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _THINKING:
        raise InputError(f'thinking must be {{"type": …}} with {", ".join(_THINKING)}')
    budget = value.get("budget_tokens")
    if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool)):
        raise InputError("thinking.budget_tokens must be an integer")
    display = value.get("display")
    if display not in (None, "summarized", "omitted"):
        raise InputError("thinking.display must be summarized or omitted")
    return _THINKING[kind], display != "omitted"


def _check_context_management(value: Any) -> None:
    """Refuse what would cut the conversation. Agents ask for the contrary: to keep all thoughts."""
    if value is None:
        return
    edits = value.get("edits", []) if isinstance(value, dict) else None
    for edit in fields.objects("context_management.edits", edits):
        if edit.get("keep") not in ("all", {"type": "all"}):
            raise InputError("context_management is not supported: nothing is cut from a prompt")
