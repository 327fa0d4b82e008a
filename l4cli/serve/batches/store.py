"""The batches of a folder, in memory and on disk."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from l4cli.errors import OutputError
from l4cli.serve.batches.folder import NEW, Folder, write_whole
from l4cli.serve.batches.ids import is_id
from l4cli.serve.batches.records import Batch, Status


class BatchStore:
    """All batches of a folder that this process owns. Any thread may use it.

    A change is on disk before anyone sees it; only counts are not.
    """

    def __init__(self, folder: Folder, note: Callable[[str], None]) -> None:
        self._folder, self._note = folder.batches, note
        self._lock = threading.Lock()
        self._batches: dict[str, Batch] = {}

    def load(self) -> None:
        """Read the records on disk. One that is damaged stays as it is, and is told about."""
        for path in self._folder.glob("*.json"):
            if path.name.startswith(NEW):
                path.unlink(missing_ok=True)
                continue
            try:
                batch = Batch.from_json(json.loads(path.read_bytes()))
            except (OSError, ValueError, TypeError) as error:
                self._note(f"{path} is not the record of a batch, and is left alone: {error}")
                continue
            if is_id("batch", batch.id) and path.stem == batch.id:
                self._batches[batch.id] = batch

    def find(self, batch_id: object) -> Batch | None:
        return self._batches.get(batch_id) if isinstance(batch_id, str) else None

    def get(self, batch_id: str) -> Batch:
        return self._batches[batch_id]

    def all(self) -> list[Batch]:
        """Return all batches, the newest first."""
        with self._lock:
            batches = list(self._batches.values())
        return sorted(batches, key=lambda one: (one.created_at, one.id), reverse=True)

    def rows(self, batch_id: str) -> Path:
        """Where the answered rows of a batch are written; the journal lies beside it."""
        assert is_id("batch", batch_id)
        return self._folder / f"{batch_id}.rows"

    def add(self, batch: Batch) -> None:
        """Record a new batch. OutputError if that is not possible."""
        with self._lock:
            self._save(batch)

    def move(
        self, batch_id: str, status: Status, *, since: Collection[str], **changes: Any
    ) -> Batch:
        """Bring a batch to another status if it is in one of `since`; return it as it is then.

        OutputError if that cannot be recorded: it is then as it was.
        """
        with self._lock:
            batch = self._batches[batch_id]
            if batch.status in since and batch.status != status:
                self._save(batch.moved(status, time.time(), **changes))
            return self._batches[batch_id]

    def count(self, batch_id: str, completed: int, failed: int) -> None:
        """Note how many requests of a batch were answered so far."""
        with self._lock:
            batch = self._batches[batch_id]
            self._batches[batch_id] = replace(batch, completed=completed, failed=failed)

    def keep_counts(self, batch_id: str) -> None:
        """Have the counts on disk, if that is possible: they are for show."""
        with self._lock, suppress(OutputError):
            self._save(self._batches[batch_id])

    def _save(self, batch: Batch) -> None:
        data = json.dumps(batch.to_json(), ensure_ascii=True).encode()
        write_whole(self._folder / f"{batch.id}.json", data)
        self._batches[batch.id] = batch
