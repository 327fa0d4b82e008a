"""Fetches the bytes of a file on the Hub, in order, over several connections at once.

huggingface_hub's own download over plain HTTP begins from the start in the next process, and does
not check checksums. Here a download can continue at any byte.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from l4cli.models.hub.answers import NO_RETRIES, raise_for_status

PIECE = 16 << 20  # bytes per HTTP request
_N_CONNECTIONS = 4
_N_TRIES = 6
# Pause after a try without any bytes. It doubles each time, to half a minute in total.
_SECONDS_TO_THE_NEXT = 1.0
_TIMEOUT = 30.0  # seconds without a byte


class Pieces:
    """The bytes [start, end) of a file at `url`. Iterate once, then `close`, even if not finished.

    `on_bytes` is called with the number of bytes that have arrived. It is called from several
    threads, but never from two at once.
    """

    def __init__(self, url: str, start: int, end: int, on_bytes: Callable[[int], None]) -> None:
        self._url = url
        self._ranges = iter(
            [(first, min(first + PIECE, end)) for first in range(start, end, PIECE)]
        )
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._running: deque[_Piece] = deque()
        self._is_handed_out = False

    def __iter__(self) -> Iterator[bytearray]:
        """Yield the pieces in order. Raises huggingface_hub's exceptions, and OSError."""
        self._start()
        while self._running:
            data = self._running[0].wait()
            self._running.popleft()
            self._start()
            self._is_handed_out = True
            yield data
            self._is_handed_out = False

    def rest(self) -> bytes:
        """Stop, and return the bytes that have arrived of the piece that the caller waited for."""
        self._stopped.set()
        if self._is_handed_out or not self._running:
            return b""
        return bytes(self._running[0].data)

    def close(self) -> None:
        """Stop the downloads without waiting for their threads."""
        self._stopped.set()

    def _start(self) -> None:
        while len(self._running) < _N_CONNECTIONS:
            piece_range = next(self._ranges, None)
            if piece_range is None:
                return
            piece = _Piece(*piece_range)
            self._running.append(piece)
            # A daemon thread: the process can end while a connection sends nothing any more.
            threading.Thread(target=self._fetch, args=(piece,), daemon=True).start()

    def _fetch(self, piece: _Piece) -> None:
        try:
            self._fetch_with_retries(piece)
        except BaseException as error:
            piece.done.put(error)
        else:
            piece.done.put(None)

    def _fetch_with_retries(self, piece: _Piece) -> None:
        from huggingface_hub import errors

        pause = _SECONDS_TO_THE_NEXT
        for n_left in reversed(range(_N_TRIES)):
            before = len(piece.data)
            try:
                self._read(piece)
            except errors.HTTPError as error:
                is_final = isinstance(error, errors.HfHubHTTPError) and not _may_pass(error)
                if is_final or not n_left or self._stopped.is_set():
                    raise
            if piece.n_missing == 0 or self._stopped.is_set():
                return
            if len(piece.data) == before:
                time.sleep(pause)
                pause *= 2
        raise OSError(f"{self._url}: the server sends less than it announces")

    def _read(self, piece: _Piece) -> None:
        """Continue the piece until it is complete or the connection ends. Raises HTTPError."""
        from huggingface_hub.utils import (
            build_hf_headers,
            http_stream_backoff,
        )

        first = piece.start + len(piece.data)
        headers = {**build_hf_headers(), "range": f"bytes={first}-{piece.end - 1}"}
        headers["accept-encoding"] = "identity"
        with http_stream_backoff(
            "GET", self._url, headers=headers, timeout=_TIMEOUT, **NO_RETRIES
        ) as response:
            raise_for_status(response)
            if response.status_code != 206 and first:
                raise OSError(f"{self._url}: the server does not serve parts of files")
            for chunk in response.iter_bytes():  # in small chunks: a cut connection loses little
                wanted = chunk[: piece.n_missing]
                piece.data += wanted
                with self._lock:
                    self._on_bytes(len(wanted))
                if self._stopped.is_set() or not piece.n_missing:
                    return


class _Piece:
    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.data = bytearray()
        self.done: SimpleQueue[BaseException | None] = SimpleQueue()

    @property
    def n_missing(self) -> int:
        return self.end - self.start - len(self.data)

    def wait(self) -> bytearray:
        """Wait for the whole piece and return its bytes."""
        error = self.done.get()
        if error is not None:
            raise error
        return self.data


def _may_pass(error: Exception) -> bool:
    """Whether the Hub's refusal is temporary."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status in (408, 429) or status >= 500
