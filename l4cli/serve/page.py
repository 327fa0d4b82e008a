"""GET / and /page/NAME: the page to talk to the models with, and the files that it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from l4cli.serve.errors import ApiError
from l4cli.serve.handling import Api

_FOLDER = Path(__file__).with_name("page")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the page's own files is loaded or run, even if a model's answer got past the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
SAFE_HEADERS: Mapping[str, str] = {
    "cache-control": "no-cache",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: with it, browsers send "Origin: null" with forms, and the guard refuses them.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


async def page(request: Request) -> Response:
    """Return the page; ApiError if no model here writes text."""
    if not Api.of(request).models.all:
        raise ApiError(404, "no model here writes text; embeddings are at /v1/embeddings")
    return _response("index.html")


async def page_file(request: Request) -> Response:
    """Return one of the page's files."""
    name = request.path_params["name"]
    if name not in _files():
        raise HTTPException(404)
    return _response(name)


def _response(name: str) -> Response:
    headers = {"content-security-policy": _POLICY, **SAFE_HEADERS}
    return Response(_files()[name], media_type=_KINDS[Path(name).suffix], headers=headers)


@cache
def _files() -> Mapping[str, bytes]:
    """Return the contents of all files by name. Names from outside are only looked up here."""
    return {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _KINDS}
