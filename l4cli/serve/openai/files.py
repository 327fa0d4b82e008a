"""/v1/files: inputs of batches, and their results."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from l4cli.errors import InputError
from l4cli.openai import fields
from l4cli.serve.batches.files import StoredFile
from l4cli.serve.batches.ids import new_id
from l4cli.serve.errors import ApiError
from l4cli.serve.handling import Api
from l4cli.serve.openai.keeping import on_disk, page, refuse_unknown_query
from l4cli.serve.openai.uploads import Upload, receive
from l4cli.serve.streams import JsonResponse

_PURPOSE = "batch"
_MOST_FILES = 10_000


async def upload(request: Request) -> Response:
    """Keep a file: the input of a batch."""
    api = Api.of(request)
    files = await on_disk(lambda: api.batches.files)
    given = await receive(request, files)
    try:
        filename = _filename(given, lenient=api.lenient)
        stored = await on_disk(partial(given.incoming.keep, new_id("file"), filename, _PURPOSE))
    finally:
        await on_disk(given.incoming.close)
    return JsonResponse(stored.shown())


def _filename(given: Upload, *, lenient: bool) -> str:
    """Return the name of an upload's file. InputError if the upload is wrong."""
    if not lenient:
        fields.refuse_unknown(given.fields, frozenset({"purpose", "file"}))
    purpose = given.fields.get("purpose")
    if purpose is None:
        raise InputError("purpose is missing: it must be 'batch'")
    if purpose != _PURPOSE:
        raise InputError(f"purpose must be 'batch', not {purpose[:100]!r}")
    if given.filename is None:
        raise InputError("file is missing: send a file with a filename in the field `file`")
    return given.filename


async def files(request: Request) -> Response:
    """List the files, the newest first."""
    api = Api.of(request)
    refuse_unknown_query(request, "after", "limit", "order", "purpose")
    order, purpose = request.query_params.get("order", "desc"), request.query_params.get("purpose")
    if order not in ("asc", "desc"):
        raise ApiError(400, f"order must be asc or desc, not {order!r}", param="order")
    store = await on_disk(lambda: api.batches.files)
    found = [one for one in store.all() if purpose in (None, one.purpose)]
    if order == "asc":
        found.reverse()
    return JsonResponse(page(request, found, most=_MOST_FILES, default=_MOST_FILES))


async def file(request: Request) -> Response:
    """Describe a file."""
    return JsonResponse((await _stored(request)).shown())


async def content(request: Request) -> Response:
    """Return what is in a file."""
    stored = await _stored(request)
    path = Api.of(request).batches.files.path(stored.id)
    # With the page on the same origin, no browser may take a file for a script.
    no_script = {"x-content-type-options": "nosniff"}
    return FileResponse(path, media_type="application/octet-stream", headers=no_script)


async def delete_file(request: Request) -> Response:
    """Delete a file."""
    stored = await _stored(request)
    await on_disk(partial(Api.of(request).batches.delete, stored))
    return JsonResponse({"id": stored.id, "object": "file", "deleted": True})


async def _stored(request: Request) -> StoredFile:
    """Return the file that the path names. Only ids of files that are there become paths."""
    api, given = Api.of(request), request.path_params["id"]
    store = await on_disk(lambda: api.batches.files)
    stored = store.find(given)
    if stored is None:
        raise ApiError(404, f"there is no file {given!r}", code="file_not_found", param="id")
    return stored
