"""POST /v1/embeddings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from l4cli.openai import embeddings as bodies
from l4cli.serve.handling import Api
from l4cli.serve.streams import unless_gone


async def embeddings(request: Request) -> Response:
    """Turn one or several texts into vectors."""
    api = Api.of(request)
    given = await api.json_body(request)
    served = api.models.embedder_of(given)
    body = bodies.read(given, lenient=api.lenient)
    content = await unless_gone(request, served.embed(body))
    return Response(content, media_type="application/json")
