"""GET /health and /metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from l4cli.serve.counting import as_text
from l4cli.serve.handling import Api
from l4cli.serve.streams import JsonResponse


async def health(request: Request) -> Response:
    """Say whether requests are answered: 200, or 503 and the reason."""
    for served in Api.of(request).models.all:
        if served.engine.failure is not None:
            return JsonResponse(
                {"status": "failed", "reason": f"{served.name}: {served.engine.failure}"},
                status_code=503,
            )
    return JsonResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Return all counts in Prometheus' text format."""
    text = as_text(Api.of(request).models.all)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
