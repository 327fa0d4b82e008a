"""Turns token pieces into text, piece by piece.

Contract: however the same bytes are split into pieces, the texts joined equal the one-shot
`b"".join(pieces).decode("utf-8", errors="replace")`, cut where the stop string that is complete
first begins.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

_Utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """An incremental UTF-8 decoder that holds possible stop strings back.

    A character is returned once its last byte has arrived. Text that could be the beginning of a
    stop string is held back until that is decided. `stopped_by` is the stop string that was found.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stopped_by: str | None = None
        self._decoder = _Utf8(errors="replace")
        self._stop = tuple(stop)
        self._held = ""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self.stopped_by is not None

    def feed(self, piece: bytes) -> str:
        """Add `piece`; return the text that can no longer change."""
        if self._decoder.buffer or not piece.isascii():
            new = self._decoder.decode(piece)
        else:  # nearly always, and faster than the decoder
            new = piece.decode("ascii")
        return self._release(new) if self._stop else new

    def finish(self) -> str:
        """Return the text that is still held back, at the end of the sequence."""
        text = self._release(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _release(self, new: str) -> str:
        if self.stopped:
            return ""
        if not self._stop:
            return new
        text = self._held + new
        found = [(at + len(s), at, s) for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            _, at, self.stopped_by = min(found)
            self._held = ""
            return text[:at]
        held = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    for n in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:n]):
            return n
    return 0
