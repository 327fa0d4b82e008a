"""Finds rows that share an id. All are answered, but joining answers to rows needs unique ids."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator

from l4cli.batch.rows import BadRow, Row


class IdRegister:
    """Remembers the id and line of every row, in 16 bytes each."""

    def __init__(self) -> None:
        self._digests = array("Q")
        self._lines = array("Q")

    def watch(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield `rows` unchanged, and register the id of each."""
        for row in rows:
            digest = hashlib.blake2b(str(row.id).encode(errors="replace"), digest_size=8).digest()
            self._digests.append(int.from_bytes(digest, "little"))
            self._lines.append(row.line)
            yield row

    def shared(self) -> tuple[int, int]:
        """Return how many rows repeat an earlier id, and the line of the first one (0 for none)."""
        import numpy as np

        if not self._digests:
            return 0, 0
        digests = np.frombuffer(self._digests, np.uint64)
        order = np.argsort(digests, kind="stable")
        is_repeat = digests[order][1:] == digests[order][:-1]
        repeats = np.frombuffer(self._lines, np.uint64)[order[1:][is_repeat]]
        return len(repeats), int(repeats.min()) if len(repeats) else 0
