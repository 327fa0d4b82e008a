"""A checkpoint's shards where they do not lie in its directory, but come one after the other.

What fetches them, and from where, is the caller's: this package knows files only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

# One that is converted, and the next one on its way.
N_IN_FLIGHT = 2


class ShardStore(Protocol):
    """Shards that are elsewhere, known by their file names.

    What its methods raise ends the conversion; unless it is a ConvertError, the conversion can be
    resumed.
    """

    @property
    def revision(self) -> str:
        """What pins the shards' content; a conversion goes on with the same one only."""

    def header(self, name: str) -> tuple[bytes, int] | None:
        """The JSON header of a shard and the size of the file; None if there is no such shard."""

    def begin(self, names: Sequence[str], n_bytes: int) -> None:
        """Prepare for fetching these, in this order, and so many bytes of them at once.

        Raises an error if there is no room for them.
        """

    def fetch(self, name: str) -> Path:
        """Bring the shard here, whole and checked; called from one thread, never the main one."""

    def drop(self, name: str) -> None:
        """Remove a shard that was fetched."""

    def stop(self) -> None:
        """Give up a `fetch` under way, which then raises."""


def in_flight_bytes(store: ShardStore, names: Iterable[str], n_shards: int = N_IN_FLIGHT) -> int:
    """The disk that as many of the named shards as are here at once take at most."""
    sizes = [found[1] for name in set(names) if (found := store.header(name)) is not None]
    return sum(sorted(sizes)[-n_shards:])
