"""The ASGI application: paths, errors and the guard around them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from l4cli.errors import L4Error
from l4cli.serve.anthropic.api import count_tokens, messages
from l4cli.serve.documents import documents
from l4cli.serve.errors import ApiError, api_error
from l4cli.serve.guard import Guard
from l4cli.serve.handling import Api
from l4cli.serve.login import login
from l4cli.serve.openai.batches import batch, batches, cancel_batch, create_batch
from l4cli.serve.openai.chat import chat_completions
from l4cli.serve.openai.completions import completions
from l4cli.serve.openai.embeddings import embeddings
from l4cli.serve.openai.files import content, delete_file, file, files, upload
from l4cli.serve.openai.models import model, models
from l4cli.serve.openai.tokens import detokenize, dry_run, tokenize
from l4cli.serve.page import page, page_file
from l4cli.serve.refusing import error_response
from l4cli.serve.responses.api import response, responses
from l4cli.serve.responses.store import ResponseStore
from l4cli.serve.status import health, metrics
from l4cli.serve.streams import GoneError

_ROUTES = (
    Route("/", page, methods=["GET"]),
    Route("/page/{name}", page_file, methods=["GET"]),
    Route("/login", login, methods=["GET", "POST"]),
    Route("/documents", documents, methods=["POST"]),
    Route("/health", health, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{name:path}", model, methods=["GET"]),
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/chat/completions/dry-run", dry_run, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    Route("/v1/responses", responses, methods=["POST"]),
    Route("/v1/responses/{id}", response, methods=["GET", "DELETE"]),
    Route("/v1/messages", messages, methods=["POST"]),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    Route("/v1/files", upload, methods=["POST"]),
    Route("/v1/files", files, methods=["GET"]),
    Route("/v1/files/{id}", file, methods=["GET"]),
    Route("/v1/files/{id}", delete_file, methods=["DELETE"]),
    Route("/v1/files/{id}/content", content, methods=["GET"]),
    Route("/v1/batches", create_batch, methods=["POST"]),
    Route("/v1/batches", batches, methods=["GET"]),
    Route("/v1/batches/{id}", batch, methods=["GET"]),
    Route("/v1/batches/{id}/cancel", cancel_batch, methods=["POST"]),
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
)


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use the server.

    key: the key that clients must send; None for none.
    hosts: names under which the server may be asked for.
    origins: the origins of pages that may send requests.
    most_bytes: of a request's body.
    most_upload_bytes: of a request that uploads a file.
    """

    key: str | None = None
    hosts: Iterable[str] = ()
    origins: Iterable[str] = ()
    most_bytes: int = 32 << 20
    most_upload_bytes: int = 512 << 20


def make_app(api: Api, access: Access) -> ASGIApp:
    """Return the application."""
    app = Starlette(
        routes=list(_ROUTES),
        exception_handlers={
            ApiError: _api_error,
            L4Error: _l4_error,
            HTTPException: _http_error,
            GoneError: _gone,
            ClientDisconnect: _gone,  # before its body was whole
            Exception: _bug,
        },
    )
    app.state.api, app.state.responses = api, ResponseStore()
    guard = Guard(
        app,
        key=access.key,
        hosts=access.hosts,
        origins=access.origins,
        most_bytes=access.most_bytes,
        uploads={"/v1/files": access.most_upload_bytes},
    )
    app.state.cookie_for = guard.cookie_for
    return guard


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(request.url.path, error)


async def _l4_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, L4Error)
    return error_response(request.url.path, api_error(error))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, status = request.url.path, error.status_code
    message = HTTPStatus(status).phrase
    if status == HTTPStatus.NOT_FOUND:
        message = f"there is no {path} here; there is {', '.join(sorted(_paths()))}"
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        message = f"{path} does not take {request.method}: use {allowed}"
    return error_response(path, ApiError(status, message, headers=error.headers))


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # nginx's number; nobody reads it


async def _bug(request: Request, error: Exception) -> Response:
    message = f"this is a bug in l4: {type(error).__name__}: {error}"
    return error_response(request.url.path, ApiError(500, message, code="bug"))


def _paths() -> set[str]:
    return {route.path for route in _ROUTES if "{" not in route.path}
