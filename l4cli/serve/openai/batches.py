"""/v1/batches: many requests in a file, answered in the background."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from l4cli.errors import InputError
from l4cli.openai import fields
from l4cli.serve.batches.records import Batch
from l4cli.serve.errors import ApiError
from l4cli.serve.handling import Api
from l4cli.serve.openai.keeping import on_disk, page, refuse_unknown_query
from l4cli.serve.streams import JsonResponse

_FIELDS = frozenset({"input_file_id", "endpoint", "completion_window", "metadata"})
_MOST_PAIRS, _MOST_KEY, _MOST_VALUE = 16, 64, 512
_MOST_LISTED, _LISTED = 100, 20


async def create_batch(request: Request) -> Response:
    """Begin a batch."""
    api = Api.of(request)
    given = await api.json_body(request)
    make = _asked(api, given)
    batch = await on_disk(make)
    return JsonResponse(batch.shown())


def _asked(api: Api, given: Mapping[str, Any]) -> partial[Batch]:
    """Return what makes the batch that a body asks for. InputError if the body is wrong."""
    if not api.lenient:
        fields.refuse_unknown(given, _FIELDS)
    return partial(
        api.batches.create,
        fields.text("endpoint", given.get("endpoint")),
        fields.text("input_file_id", given.get("input_file_id")),
        fields.text("completion_window", given.get("completion_window")),
        _metadata(given.get("metadata")),
    )


def _metadata(given: Any) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise InputError("metadata must be an object whose values are strings")
    if len(given) > _MOST_PAIRS:
        raise InputError(f"metadata may have {_MOST_PAIRS} keys, and has {len(given)}")
    for key, value in given.items():
        if len(key) > _MOST_KEY or len(value) > _MOST_VALUE:
            raise InputError(
                f"metadata: a key may have {_MOST_KEY} characters and a value {_MOST_VALUE}"
            )
    return given


async def batches(request: Request) -> Response:
    """List the batches, the newest first."""
    refuse_unknown_query(request, "after", "limit")
    found = await on_disk(Api.of(request).batches.all)
    return JsonResponse(page(request, found, most=_MOST_LISTED, default=_LISTED))


async def batch(request: Request) -> Response:
    """Say how far a batch is."""
    return JsonResponse((await _found(request)).shown())


async def cancel_batch(request: Request) -> Response:
    """End a batch with the answers that it has."""
    found = await _found(request)
    cancelled = await on_disk(partial(Api.of(request).batches.cancel, found))
    return JsonResponse(cancelled.shown())


async def _found(request: Request) -> Batch:
    given = request.path_params["id"]
    found = await on_disk(partial(Api.of(request).batches.find, given))
    if found is None:
        raise ApiError(404, f"there is no batch {given!r}", code="batch_not_found", param="id")
    return found
