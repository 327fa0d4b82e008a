"""uvicorn's HTTP protocol with limits to the time and the size of a request's head.

The parser is httptools' (Node.js's llhttp) and not h11, which is written in Python.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from l4cli.serve.errors import ApiError, as_openai
from l4cli.serve.streams import to_json

_HEAD_SECONDS = 30.0  # in which the head of a request must have arrived
_MOST_HEAD_BYTES = 64 << 10
_FLUSH_SECONDS = 5.0  # in which a client must take the rest of an answer when the server stops


class Http(HttpToolsProtocol):
    """One connection. Clients that connect and send nothing, drip, or never end are cut off."""

    _head_timer: asyncio.TimerHandle | None = None  # runs while a head is awaited
    _num_head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is None:
            return
        self._num_head_bytes += len(data)
        if self._num_head_bytes > _MOST_HEAD_BYTES:
            self._refuse(431, f"the request's head is larger than {_MOST_HEAD_BYTES >> 10} KiB")

    def shutdown(self) -> None:
        """Close the connection, now or when its answer has been sent: the server stops."""
        super().shutdown()
        self._end_soon()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "this is not HTTP/1.1, or it is damaged")

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._close)
            self._num_head_bytes = 0

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end_soon(self) -> None:
        """Give up a client that does not take what is left for it, or the server never ends."""
        if self.transport.is_closing():
            self.loop.call_later(_FLUSH_SECONDS, self.transport.abort)
        else:
            self.loop.call_later(1.0, self._end_soon)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answer what is no request, which no handler sees."""
        cycle = self.cycle
        is_answering = cycle and cycle.response_started and not cycle.response_complete
        if is_answering or self.transport.is_closing():
            self._close()
            return
        body = to_json(as_openai(ApiError(status, message)))
        self.transport.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n".encode()
            + body
        )
        self._close()
