"""Error responses in the format of the API that was asked."""

from __future__ import annotations

from starlette.responses import Response

from l4cli.serve.errors import ApiError, as_anthropic, as_openai
from l4cli.serve.streams import JsonResponse

_ANTHROPIC = ("/v1/messages",)


def error_response(path: str, error: ApiError) -> Response:
    """Return the response for an error on this path."""
    shown = as_anthropic(error) if path.startswith(_ANTHROPIC) else as_openai(error)
    return JsonResponse(shown, status_code=error.status, headers=error.headers)
