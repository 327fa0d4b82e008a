"""Rows in OpenAI's Batch format; `openai_answers.py` answers them in kind.

    {"custom_id", "method": "POST", "url": "/v1/chat/completions" or "/v1/completions", "body"}

A body is answered by the model that is loaded, whatever model it names. Its fields have OpenAI's
names, and top_k, min_p, repetition_penalty, ignore_eos, grammar and regex may stand beside them.
What would change the answer and is not supported is refused; what would not is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from l4cli.batch import fields
from l4cli.errors import InputError

_DIALECTS: Mapping[str, Literal["chat", "completions"]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}
# Nothing in them changes an answer: they are for OpenAI's books, caches and machines.
_PASSED_OVER = {
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
    "stream",
    "stream_options",
}
_SHARED = fields.SAMPLING | {"n", "max_completion_tokens", *_PASSED_OVER}
_FIELDS = {
    "chat": _SHARED | {"messages", "tools", "tool_choice"},
    "completions": _SHARED | {"prompt", "echo", "suffix", "best_of"},
}


def is_envelope(value: Mapping[str, Any]) -> bool:
    """Whether a row is meant to be one of OpenAI's."""
    return "custom_id" in value or ("url" in value and "body" in value)


def dialect(value: Mapping[str, Any]) -> Literal["chat", "completions"]:
    """Whose shape the answer takes."""
    url = value.get("url")
    return _DIALECTS.get(url, "chat") if isinstance(url, str) else "chat"


def read(value: Mapping[str, Any], *, lenient: bool) -> dict[str, Any]:
    """What an envelope sets of a Row; InputError names what is wrong."""
    fields.text("custom_id", value.get("custom_id"))
    if value.get("method", "POST") != "POST":
        raise InputError("method must be POST")
    if value.get("url") not in list(_DIALECTS):  # a list may be asked for what has no hash
        raise InputError(f"url must be {' or '.join(_DIALECTS)}, not {value.get('url')!r}")
    body = value.get("body")
    if not isinstance(body, dict):
        raise InputError(f"body must be an object, not {fields.json_type(body)}")
    kind = dialect(value)
    if not lenient:
        fields.refuse_unknown(value, frozenset({"custom_id", "method", "url", "body"}))
        fields.refuse_unknown(body, frozenset(_FIELDS[kind]))
    fields.refuse_stream(body)
    body = _renamed(body)
    asked = {"n": fields.choices(body), "sampling": fields.sampling(body)}
    if kind == "chat":
        messages = fields.messages(body.get("messages"))
        return {**asked, "messages": messages, "tools": fields.tools(body)}
    return {**asked, "prompt": _prompt(body)}


def _renamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with OpenAI's newer name for max_tokens taken for it."""
    renamed = dict(body)
    newer = renamed.pop("max_completion_tokens", None)
    if newer is not None:
        if renamed.get("max_tokens") not in (None, newer):
            raise InputError("max_tokens and max_completion_tokens differ")
        fields.sampling({"max_tokens": newer})
        renamed["max_tokens"] = newer
    return renamed


def _prompt(body: Mapping[str, Any]) -> str:
    """The text to continue; a list of one is taken for what is in it."""
    for name, harmless in (("echo", (False,)), ("suffix", ("",)), ("best_of", (1,))):
        if body.get(name) not in (None, *harmless):
            raise InputError(f"{name} is not supported")
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise InputError(
                f"prompt must be one text, not a list of {len(prompt)}: a row for each"
            )
        (prompt,) = prompt
    return fields.text("prompt", prompt)
