"""The bytes of a file on the Hub, in order, fetched ahead over several connections.

What huggingface_hub downloads by plain HTTP it begins anew in the next process, and it leaves
checksums to others. Here a file can be gone on with at any byte.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

PIECE = 16 << 20  # bytes; each is a request of its own
_N_CONNECTIONS = 4
_N_TRIES = 6
_SECONDS_TO_THE_NEXT = 1.0  # try, where nothing came; doubled each time: half a minute in all
_TIMEOUT = 30.0  # seconds without a byte


class Pieces:
    """Bytes [start, end) of a file at `url`; iterate once, then `close` it, done or not.

    `on_bytes` gets how many bytes more are here, from several threads, one at a time.
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
        """Pieces in order. Raises what huggingface_hub raises."""
        self._start()
        while self._running:
            data = self._running[0].wait()
            self._running.popleft()
            self._start()
            self._is_handed_out = True
            yield data
            self._is_handed_out = False

    def rest(self) -> bytes:
        """What had come of the piece that was waited for, where that was given up."""
        self._stopped.set()
        if self._is_handed_out or not self._running:
            return b""
        return bytes(self._running[0].data)

    def close(self) -> None:
        """Let the connections go; nobody waits for them."""
        self._stopped.set()

    def _start(self) -> None:
        while len(self._running) < _N_CONNECTIONS:
            piece_range = next(self._ranges, None)
            if piece_range is None:
                return
            piece = _Piece(*piece_range)
            self._running.append(piece)
            # A daemon: whoever leaves does not wait for a connection that has gone silent.
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
        """Take the piece up where it is, up to where the connection ends. Raises HTTPError."""
        from huggingface_hub.utils import (
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        first = piece.start + len(piece.data)
        headers = {**build_hf_headers(), "range": f"bytes={first}-{piece.end - 1}"}
        headers["accept-encoding"] = "identity"
        with http_stream_backoff(
            "GET", self._url, headers=headers, timeout=_TIMEOUT, max_retries=0
        ) as response:
            hf_raise_for_status(response)
            if response.status_code != 206 and first:
                raise OSError(f"{self._url}: the server does not serve parts of files")
            for chunk in response.iter_bytes():  # as they come: what is cut off is kept so far
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
        """Its bytes, when all are here."""
        error = self.done.get()
        if error is not None:
            raise error
        return self.data


def _may_pass(error: Exception) -> bool:
    """Whether the Hub's refusal is one that ends by itself."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status in (408, 429) or status >= 500
