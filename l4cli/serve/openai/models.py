"""GET /v1/models, /v1/models/NAME."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.serve.handling import Api
from l4cli.serve.served import Served
from l4cli.serve.streams import JsonResponse


async def models(request: Request) -> Response:
    """List the served models."""
    served = Api.of(request).models.all
    listed = {"object": "list", "data": [_shown(one) for one in served]}
    pages = {"has_more": False, "first_id": served[0].name, "last_id": served[-1].name}
    return JsonResponse({**listed, **pages})


async def model(request: Request) -> Response:
    """Describe one model."""
    served = Api.of(request).models.of({"model": request.path_params["name"]})
    return JsonResponse(_shown(served))


def _shown(served: Served) -> dict[str, Any]:
    """Return OpenAI's fields and Anthropic's, and what clients need to know of the context."""
    backend = served.llm.engine.backend
    started = datetime.fromtimestamp(int(served.counts.started), timezone.utc)
    return {
        "id": served.name,
        "object": "model",
        "created": int(served.counts.started),
        "owned_by": "l4",
        "type": "model",
        "display_name": served.name,
        "created_at": started.isoformat().replace("+00:00", "Z"),
        "max_input_tokens": backend.n_ctx_seq,
        "max_model_len": backend.n_ctx_seq,
        "parallel": backend.n_seq_max,
    }
