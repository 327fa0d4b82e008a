"""GET /v1/models, /v1/models/NAME."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.serve.embedding.served import ServedEmbedder
from l4cli.serve.handling import Api
from l4cli.serve.served import Served
from l4cli.serve.streams import JsonResponse


async def models(request: Request) -> Response:
    """List the served models."""
    all_models = Api.of(request).models
    served: list[Served | ServedEmbedder] = [*all_models.all, *all_models.embedders]
    listed = {"object": "list", "data": [_shown(one) for one in served]}
    pages = {"has_more": False, "first_id": served[0].name, "last_id": served[-1].name}
    return JsonResponse({**listed, **pages})


async def model(request: Request) -> Response:
    """Describe one model."""
    served = Api.of(request).models.any_of(request.path_params["name"])
    return JsonResponse(_shown(served))


def _shown(served: Served | ServedEmbedder) -> dict[str, Any]:
    """Return OpenAI's fields and Anthropic's, and what clients need to know of the context."""
    if isinstance(served, ServedEmbedder):
        longest = served.embedder.longest
        own = {"max_model_len": longest, "embedding_dimensions": served.embedder.n_embd}
    else:
        backend = served.llm.engine.backend
        longest = backend.n_ctx_seq
        own = {"max_model_len": longest, "parallel": backend.n_seq_max}
    started = datetime.fromtimestamp(int(served.counts.started), timezone.utc)
    return {
        "id": served.name,
        "object": "model",
        "created": int(served.counts.started),
        "owned_by": "l4",
        "type": "model",
        "display_name": served.name,
        "created_at": started.isoformat().replace("+00:00", "Z"),
        "max_input_tokens": longest,
        **own,
    }
