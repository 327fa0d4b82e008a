"""GET /v1/models, /v1/models/NAME."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.serve.handling import Api
from l4cli.serve.served import Served
from l4cli.serve.streams import JsonResponse


async def models(request: Request) -> Response:
    """List the served models."""
    served = Api.of(request).models.all
    return JsonResponse({"object": "list", "data": [_shown(one) for one in served]})


async def model(request: Request) -> Response:
    """Describe one model."""
    served = Api.of(request).models.of({"model": request.path_params["name"]})
    return JsonResponse(_shown(served))


def _shown(served: Served) -> dict[str, Any]:
    """Return OpenAI's fields, and the length of the context, which clients need to know."""
    backend = served.llm.engine.backend
    return {
        "id": served.name,
        "object": "model",
        "created": int(served.counts.started),
        "owned_by": "l4",
        "max_model_len": backend.n_ctx_seq,
        "parallel": backend.n_seq_max,
    }
