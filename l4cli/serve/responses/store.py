"""Keeps responses of /v1/responses in memory, within bounds, for the requests that follow them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from l4cli.serve.responses.input import Item

_MOST = 1000  # responses
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A response.

    shown: as the client got it.
    items: the whole conversation, with the response's own output at its end.
    num_bytes: how much memory that takes, about, without what earlier responses hold.
    """

    shown: Mapping[str, Any]
    items: tuple[Item, ...]
    num_bytes: int


class ResponseStore:
    """Responses by their ids. The oldest ones are dropped when there are too many."""

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._num_bytes = 0

    def get(self, response_id: str) -> Kept | None:
        """Return a response; None if it is not here."""
        return self._kept.get(response_id)

    def keep(self, kept: Kept) -> None:
        """Keep a response, unless it is larger than all may be together."""
        if kept.num_bytes > self._most_bytes:
            return
        self._kept[kept.shown["id"]] = kept
        self._num_bytes += kept.num_bytes
        while len(self._kept) > self._most or self._num_bytes > self._most_bytes:
            self._num_bytes -= self._kept.popitem(last=False)[1].num_bytes

    def remove(self, response_id: str) -> bool:
        """Forget a response; return whether it was here."""
        kept = self._kept.pop(response_id, None)
        self._num_bytes -= kept.num_bytes if kept else 0
        return kept is not None
