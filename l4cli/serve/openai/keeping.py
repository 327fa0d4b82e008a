"""What the handlers of files and batches share: work with the disk, and pages of lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from starlette.requests import Request

from l4cli.errors import L4Error, OutputError
from l4cli.serve.batches.folder import DiskFullError
from l4cli.serve.batches.service import ConflictError, ElsewhereError
from l4cli.serve.errors import ApiError, api_error

_T = TypeVar("_T")
_STATUSES: Sequence[tuple[type[L4Error], int]] = (
    (DiskFullError, 507),
    (OutputError, 500),
    (ElsewhereError, 503),
    (ConflictError, 409),
)


async def on_disk(work: Callable[[], _T]) -> _T:
    """Do work that may wait for the disk, in another thread. ApiError if it fails."""
    try:
        return await asyncio.to_thread(work)
    except L4Error as error:
        raise kept_error(error) from error


def kept_error(error: L4Error) -> ApiError:
    """Return the error for the client."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return ApiError(status, str(error), code=error.type)
    return api_error(error)


class Listed(Protocol):
    """What has an id, and JSON."""

    @property
    def id(self) -> str: ...

    def shown(self) -> dict[str, Any]: ...


def page(request: Request, found: Sequence[Listed], *, most: int, default: int) -> dict[str, Any]:
    """Return the part of a list that a request's `after` and `limit` ask for, as OpenAI does."""
    limit, after = (
        request.query_params.get("limit", str(default)),
        request.query_params.get("after"),
    )
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= most):
        raise ApiError(400, f"limit must be a number from 1 to {most}", param="limit")
    ids = [one.id for one in found]
    if after is not None and after not in ids:
        raise ApiError(400, f"after: there is no {after!r} in this list", param="after")
    start = ids.index(after) + 1 if after is not None else 0
    shown = found[start : start + int(limit)]
    return {
        "object": "list",
        "data": [one.shown() for one in shown],
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
        "has_more": start + len(shown) < len(found),
    }


def refuse_unknown_query(request: Request, *known: str) -> None:
    """Raise ApiError for a parameter that would be ignored."""
    for name in request.query_params:
        if name not in known:
            raise ApiError(
                400, f"unknown parameter {name!r}; known: {', '.join(known)}", param=name
            )
