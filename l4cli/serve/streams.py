"""Bodies of responses: JSON, and server-sent events that end when the client goes away."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_T = TypeVar("_T")
_PING = 15.0  # seconds without an event after which a comment shows that the stream is alive
_STUCK = 60.0  # seconds after which a client that reads nothing is given up
_COMMENT = b": waiting\n\n"
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))  # made once: it is costly


class GoneError(Exception):
    """The client has closed its connection."""


def to_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8. Halves of characters, which UTF-8 cannot hold, are escaped."""
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


class JsonResponse(Response):
    """A JSON value."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content)


def event(value: Any, name: str | None = None) -> bytes:
    """Return one server-sent event with a JSON value."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + to_json(value) + b"\n\n"


async def unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """Return what `work` returns. It is cancelled, with GoneError, when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise GoneError
    finally:
        await _cancel(task, gone)


class EventStream(Response):
    """A response of server-sent events.

    events: the encoded events, which say by themselves how they end.
    close: called at the end, which comes early if the client goes away or reads nothing for a
        minute.
    sign: what is sent now and then while there is no event, as a sign that the stream is alive.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        close: Callable[[], None],
        *,
        sign: bytes = _COMMENT,
    ) -> None:
        self.events, self.close, self._sign = events, close, sign
        self.status_code = 200
        self.background = None
        self.init_headers(
            {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
            }
        )
        self._is_sending = False
        self._changed = 0.0  # time.monotonic() of the last change of `_is_sending`

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = [
            asyncio.ensure_future(work)
            for work in (self._write(send), _disconnect(receive), self._watch(send))
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
        finally:
            self.close()
            await _cancel(*tasks)

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for part in self.events:
                await self._send(send, part)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self.events.aclose()

    async def _send(self, send: Send, part: bytes) -> None:
        self._is_sending, self._changed = True, time.monotonic()
        await send({"type": "http.response.body", "body": part, "more_body": True})
        self._is_sending = False

    async def _watch(self, send: Send) -> None:
        """Show that the stream is alive while nothing comes; end when the client reads nothing."""
        self._changed = time.monotonic()
        while True:
            await asyncio.sleep(_PING / 3)
            seconds = time.monotonic() - self._changed
            if self._is_sending and seconds > _STUCK:
                return
            if not self._is_sending and seconds > _PING:
                await self._send(send, self._sign)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
