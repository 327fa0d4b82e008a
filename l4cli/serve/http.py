"""uvicorn's HTTP protocol with a limit to the time that a request's head may take."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD_SECONDS = 30.0  # in which the head of a connection's first request must have arrived


class Http(H11Protocol):
    """One connection. Clients that connect and send nothing, or drip, are cut off."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(_HEAD_SECONDS, self._close_if_headless)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def _close_if_headless(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
