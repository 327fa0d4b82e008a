"""Reads rows in OpenAI's Batch format; `openai_answers.py` writes their answers in that format.

    {"custom_id", "method": "POST", "url": "/v1/chat/completions" or "/v1/completions", "body"}

The loaded model answers, whatever model the body names. `l4cli/openai/bodies.py` reads the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from l4cli.errors import InputError
from l4cli.openai import bodies, fields

KINDS: Mapping[str, bodies.Kind] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
}


def is_envelope(value: Mapping[str, Any]) -> bool:
    """Whether a row is in OpenAI's Batch format."""
    return "custom_id" in value or ("url" in value and "body" in value)


def dialect(value: Mapping[str, Any]) -> bodies.Kind:
    """Return the format of the answer, from the url; "chat" if the url is invalid."""
    return KINDS.get(path(value), "chat")


def path(value: Mapping[str, Any]) -> str:
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
    if path(value) not in KINDS:
        raise InputError(f"url must be {' or '.join(KINDS)}, not {value.get('url')!r}")
    given = value.get("body")
    if not isinstance(given, dict):
        raise InputError(f"body must be an object, not {fields.json_type(given)}")
    if not lenient:
        fields.refuse_unknown(value, frozenset({"custom_id", "method", "url", "body"}))
    fields.refuse_stream(given)
    kind = dialect(value)
    body = bodies.read(kind, given, lenient=lenient)
    asked = {"n": body.n, "sampling": body.sampling}
    if kind == "chat":
        offered = {"tools": body.tools, "must_call": body.must_call, "most_calls": body.most_calls}
        wished = {"thinks": body.thinks, "verbosity": body.verbosity}
        return {**asked, "messages": body.messages, **offered, **wished}
    return {**asked, "prompt": _prompt(body)}


def _prompt(body: bodies.Body) -> bodies.Prompt:
    """Return the prompt of a completions body; a list of one prompt counts as that prompt."""
    if body.echo:
        raise InputError("echo is not supported")
    if len(body.prompts) != 1:
        raise InputError(
            f"prompt must be one text, not a list of {len(body.prompts)}: write one row for each"
        )
    return body.prompts[0]
