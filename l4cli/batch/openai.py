"""Reads rows in OpenAI's Batch format; `openai_answers.py` writes their answers in that format.

    {"custom_id", "method": "POST", "url": "/v1/chat/completions" or "/v1/completions", "body"}

The loaded model answers, whatever model the body names. The body has OpenAI's fields, and may also
have top_k, min_p, repetition_penalty, ignore_eos, grammar and regex. An unsupported field raises
an error if it would change the answer; otherwise it is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from l4cli.batch import fields
from l4cli.engine.types import NUM_SEEDS
from l4cli.errors import InputError

_DIALECTS: Mapping[str, Literal["chat", "completions"]] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}
# These fields do not change an answer: they concern OpenAI's accounting, caches and servers.
_PASSED_OVER = {
    "model",
    "reasoning_effort",
    "verbosity",
    "prediction",
    "prompt_cache_retention",
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
# Each of these is accepted only with a value that asks for nothing.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "echo": (False,),
    "suffix": ("",),
    "best_of": (1,),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
}
_FIELDS = {
    "chat": _SHARED
    | {"messages", "tools", "tool_choice", "functions", "function_call"}
    | {"modalities", "audio", "web_search_options"},
    "completions": _SHARED | {"prompt", "echo", "suffix", "best_of"},
}


def is_envelope(value: Mapping[str, Any]) -> bool:
    """Whether a row is in OpenAI's Batch format."""
    return "custom_id" in value or ("url" in value and "body" in value)


def dialect(value: Mapping[str, Any]) -> Literal["chat", "completions"]:
    """Return the format of the answer, from the url; "chat" if the url is invalid."""
    return _DIALECTS.get(_path(value), "chat")


def _path(value: Mapping[str, Any]) -> str:
    """The path of an envelope's url, which may be a whole address; "" if there is none."""
    url = value.get("url")
    try:
        return urlsplit(url).path.rstrip("/") if isinstance(url, str) else ""
    except ValueError:
        return ""


def read(value: Mapping[str, Any], *, lenient: bool) -> dict[str, Any]:
    """Return the arguments for Row that an envelope sets. Raises InputError if it is invalid."""
    fields.text("custom_id", value.get("custom_id"))
    method = value.get("method", "POST")
    if not isinstance(method, str) or method.upper() != "POST":
        raise InputError("method must be POST")
    if _path(value) not in _DIALECTS:
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
        offered = {"tools": fields.tools(body), "must_call": fields.must_call(body)}
        return {**asked, "messages": messages, **offered}
    return {**asked, "prompt": _prompt(body)}


def _renamed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with l4's names and ranges for what OpenAI writes in several ways."""
    for name, harmless in _ONLY.items():
        if body.get(name) not in (None, *harmless):
            raise InputError(f"{name} is not supported")
    renamed = {name: _integer(value) for name, value in body.items()}
    if isinstance(seed := renamed.get("seed"), int) and not isinstance(seed, bool):
        renamed["seed"] = seed % NUM_SEEDS  # OpenAI's seeds have 64 bits and a sign
    if renamed.get("stop") == "":
        del renamed["stop"]
    if not renamed.get("logprobs") and renamed.get("top_logprobs") == 0:
        del renamed["top_logprobs"]
    if (functions := renamed.pop("functions", None)) and "tools" not in renamed:
        renamed["tools"] = functions
    if (choice := renamed.pop("function_call", None)) is not None:
        renamed.setdefault("tool_choice", choice)
    newer = renamed.pop("max_completion_tokens", None)
    if newer is not None:
        if renamed.get("max_tokens") not in (None, newer):
            raise InputError("max_tokens and max_completion_tokens differ")
        fields.sampling({"max_tokens": newer})
        renamed["max_tokens"] = newer
    return renamed


def _integer(value: Any) -> Any:
    """Return a whole number written with a decimal point, such as 5.0, as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _prompt(body: Mapping[str, Any]) -> str:
    """Return the prompt of a completions body; a list of one text counts as that text."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], (int, list)):
        raise InputError("prompt must be one text, not token ids: they are not supported")
    if isinstance(prompt, list):
        if len(prompt) != 1:
            raise InputError(
                f"prompt must be one text, not a list of {len(prompt)}: write one row for each"
            )
        (prompt,) = prompt
    return fields.text("prompt", prompt)
