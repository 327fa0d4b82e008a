"""GET /health and /metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from l4cli.serve.counting import as_text
from l4cli.serve.handling import Api
from l4cli.serve.streams import JsonResponse


async def health(request: Request) -> Response:
    """Say whether requests are answered: 200, or 503 and the reason."""
    models = Api.of(request).models
    failures = [(served.name, served.engine.failure) for served in models.all]
    failures += [(served.name, served.failure) for served in models.embedders]
    for name, failure in failures:
        if failure is not None:
            return JsonResponse(
                {"status": "failed", "reason": f"{name}: {failure}"}, status_code=503
            )
    return JsonResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Return all counts in Prometheus' text format."""
    models = Api.of(request).models
    text = as_text(models.all, models.embedders)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
