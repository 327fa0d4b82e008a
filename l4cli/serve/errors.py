"""Errors of the API, with the status and the JSON of each, in OpenAI's and Anthropic's format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from l4cli.errors import ContextOverflowError, EngineError, InputError, L4Error
from l4cli.openai.answers import code_of

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}

# Clients have no options; in messages, they become those of the server.
_SERVERS_OPTIONS = {
    "raise --ctx above": "start l4 serve with a --ctx above",
    "(--lenient ignores it)": "(l4 serve --lenient ignores it)",
}


class ApiError(Exception):
    """A request that is answered with an error.

    status: the HTTP status.
    message: what is wrong, and what helps.
    code: a short name of the kind of error; None if the status says all.
    param: the field that is wrong.
    headers: further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})


def api_error(error: L4Error) -> ApiError:
    """Return the error for the client: 400 if the request is wrong, 500 if computing it failed."""
    message = str(error)
    for own, served in _SERVERS_OPTIONS.items():
        message = message.replace(own, served)
    if isinstance(error, EngineError):
        return ApiError(500, message, code=error.type)
    if isinstance(error, ContextOverflowError):
        return ApiError(400, message, code=code_of(error.type))
    param = _field_in(message) if isinstance(error, InputError) else None
    return ApiError(400, message, code=error.type, param=param)


def _field_in(message: str) -> str | None:
    """Return the field that a message is about, which it names first, or as an unknown one."""
    field = r"unknown field '([^']+)'|(?!the |a |no )([a-z_]+(?:\[\d+\])?)[\s:.]"
    found = re.match(field, message)
    return (found[1] or found[2]) if found else None


def as_openai(error: ApiError) -> dict[str, Any]:
    """Return the error's JSON in OpenAI's format."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {
        "error": {
            "message": error.message,
            "type": kind,
            "param": error.param,
            "code": error.code,
        }
    }


def as_anthropic(error: ApiError) -> dict[str, Any]:
    """Return the error's JSON in Anthropic's format."""
    default = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _ANTHROPIC_TYPES.get(error.status, default)
    shown: dict[str, Any] = {"type": kind, "message": error.message}
    if error.code:
        shown["details"] = {"error_code": error.code}
    return {"type": "error", "error": shown}
