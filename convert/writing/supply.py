"""Fetches a checkpoint's shards before the jobs that read them, and drops them afterwards.

A thread fetches the shards in the order of the jobs, one ahead of those being read. A shard is
dropped only once everything made of it is recorded in the journal, so a conversion that was killed
never has to fetch a dropped shard again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType

from convert.checkpoint.checkpoint import Reader
from convert.checkpoint.shards import N_IN_FLIGHT, ShardStore, in_flight_bytes
from convert.checkpoint.tensors import View
from convert.writing.schedule import Job

# How long to wait for a fetch to stop. One that does not stop ends with the process.
_SECONDS_TO_STOP = 1.0


class StoppedError(Exception):
    """The conversion is being stopped."""


class Supply:
    """Fetches the shards that the jobs `todo` read from `store`, and opens them in `reader`.

    With `store` None the shards lie on disk and are open already; then every method does nothing.
    Use it in a `with`. `take` may be called from many threads at once.
    """

    def __init__(self, todo: Sequence[Job], reader: Reader, store: ShardStore | None) -> None:
        self._reader = reader
        self._store = store
        uses = [_shards(job) for job in todo] if store is not None else []
        self._order = list(dict.fromkeys(path for paths in uses for path in paths))
        self._n_left = Counter(path for paths in uses for path in paths)
        self._max_held = most_at_once(uses) + N_IN_FLIGHT - 1
        self._changed = Condition()
        self._n_held = 0
        self._here: set[Path] = set()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._fetch_all, name="fetch", daemon=True)

    def __enter__(self) -> Supply:
        if self._store is not None and self._order:
            names = [path.name for path in self._order]
            self._store.begin(names, in_flight_bytes(self._store, names, self._max_held))
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()
        if self._store is not None and self._thread.is_alive():
            self._store.stop()
            self._thread.join(_SECONDS_TO_STOP)

    def take(self, job: Job) -> None:
        """Wait until the job's shards are open. Raise the error of a fetch that failed."""
        if self._store is None:
            return
        paths = _shards(job)
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._here.issuperset(paths))
            if not self._here.issuperset(paths) and self._error is not None:
                raise self._error

    def finish(self, job: Job) -> list[Path]:
        """Note that the job is done. Return the shards that no remaining job reads."""
        if self._store is None:
            return []
        paths = _shards(job)
        self._n_left.subtract(paths)
        return [path for path in paths if not self._n_left[path]]

    def drop(self, paths: Iterable[Path]) -> None:
        """Close and remove shards. Everything made of them must be recorded."""
        for path in paths:
            assert self._store is not None
            self._reader.close_file(path)
            self._store.drop(path.name)
            with self._changed:
                self._n_held -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """End every wait in `take` with StoppedError, and the fetching; idempotent."""
        self._fail(StoppedError())

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _fetch_all(self) -> None:
        assert self._store is not None
        try:
            for path in self._order:
                with self._changed:
                    self._changed.wait_for(lambda: self._error or self._n_held < self._max_held)
                    if self._error is not None:
                        return
                    self._n_held += 1
                self._reader.open_file(path, self._store.fetch(path.name))
                with self._changed:
                    self._here.add(path)
                    self._changed.notify_all()
        except BaseException as error:  # `take` raises it in the threads that wait for a shard
            self._fail(error)


def most_at_once(uses: Sequence[Sequence[Path]]) -> int:
    """The most shards that must be here at the same time.

    uses: the shards that each job reads, in the order of the jobs.

    The result is 1 unless the scales of a matrix lie in another shard than its weights.
    """
    first = {path: n for n, paths in reversed(list(enumerate(uses))) for path in paths}
    last = {path: n for n, paths in enumerate(uses) for path in paths}
    changes = Counter(first.values())
    changes.subtract(n + 1 for n in last.values())
    most = held = 0
    for n in sorted(changes):
        held += changes[n]
        most = max(most, held)
    return most


def _shards(job: Job) -> tuple[Path, ...]:
    source = job.tiles[0].source
    if not isinstance(source, View):
        return ()
    return tuple(dict.fromkeys(stored.path for stored in source.reads))
