"""The interface to shards that are not on disk but are fetched one after the other.

The caller implements it and decides where they come from; this package only reads files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

# One shard is converted while the next one is fetched.
N_IN_FLIGHT = 2


class ShardStore(Protocol):
    """Shards that are not on disk yet; each is known by its file name.

    Any exception from a method ends the conversion. The conversion can then be resumed, unless the
    exception is a ConvertError.
    """

    @property
    def revision(self) -> str:
        """Identifies the shards' content; a conversion is resumed only with an equal revision."""

    def header(self, name: str) -> tuple[bytes, int] | None:
        """The JSON header of a shard and the size of the file; None if there is no such shard."""

    def begin(self, names: Sequence[str], n_bytes: int) -> None:
        """Prepare to fetch these shards, in this order.

        n_bytes: the most bytes of shards that will be on disk at once. Raises an error if there is
        not enough room.
        """

    def fetch(self, name: str) -> Path:
        """Fetch the shard, check it, and return its file.

        Always called from the same thread, which is not the main one.
        """

    def drop(self, name: str) -> None:
        """Remove a fetched shard."""

    def stop(self) -> None:
        """Cancel a `fetch` under way; `fetch` then raises an exception."""


def in_flight_bytes(store: ShardStore, names: Iterable[str], n_shards: int = N_IN_FLIGHT) -> int:
    """The most bytes that `n_shards` of the named shards take: the sum of the largest ones."""
    sizes = [found[1] for name in set(names) if (found := store.header(name)) is not None]
    return sum(sorted(sizes)[-n_shards:])
