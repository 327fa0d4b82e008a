"""Files and batches as the handlers of the API use them. All methods may wait for the disk."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from l4cli.errors import InputError, L4Error, OutputError
from l4cli.serve.batches.files import FileStore, StoredFile
from l4cli.serve.batches.folder import Folder
from l4cli.serve.batches.ids import new_id
from l4cli.serve.batches.records import CAN_BE_CANCELLED, ENDPOINTS, Batch
from l4cli.serve.batches.store import BatchStore
from l4cli.serve.batches.working import Worker
from l4cli.serve.served import Models

_MOST_UNFINISHED = 100  # batches; each has a thread
_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_MOST_DAYS = 365
_RETRY = 1.0  # seconds after which a folder that another server owned is tried again


class ElsewhereError(L4Error):
    """Another server owns the folder."""

    type = "batches_elsewhere"


class ConflictError(L4Error):
    """Something cannot be done as things are."""

    type = "conflict"


class Batches:
    """The files and batches of one server.

    root: the folder where they are kept.
    models, lenient, note: see `Worker`.

    `start` it, `drain` it when the server should stop, and `close` it before the engines' threads.
    Its methods raise ElsewhereError while another server owns the folder.
    """

    def __init__(
        self, root: Path, models: Models, *, lenient: bool, note: Callable[[str], None]
    ) -> None:
        self._folder = Folder(root)
        self._files, self._store = FileStore(self._folder), BatchStore(self._folder, note)
        self._worker = Worker(self._store, self._files, models, lenient=lenient, note=note)
        self._note = note
        self._lock = threading.Lock()
        self._is_open = False
        self._closing = threading.Event()

    @property
    def files(self) -> FileStore:
        """The files. Raises ElsewhereError, or OutputError if the folder cannot be made."""
        self._open()
        return self._files

    def start(self) -> None:
        """Go on with the batches that earlier servers have left, if there are any."""
        if not self._folder.is_there:
            return
        try:
            self._open()
        except ElsewhereError as error:
            self._note(str(error))
            threading.Thread(target=self._keep_trying, name="l4-batches", daemon=True).start()
        except OutputError as error:
            self._note(f"there are no batches: {error}")

    def drain(self) -> None:
        """Start no further row."""
        self._closing.set()
        self._worker.drain()

    def close(self) -> None:
        """End all work, so that the next server can go on with it; idempotent."""
        self._closing.set()
        self._worker.close()
        with self._lock:
            self._is_open = False
            self._folder.close()

    def create(
        self,
        endpoint: str,
        input_file_id: str,
        window: str,
        metadata: Mapping[str, str] | None = None,
    ) -> Batch:
        """Record a batch and begin it. InputError if something in it is wrong."""
        files = self.files
        if endpoint not in ENDPOINTS:
            raise InputError(f"endpoint must be {' or '.join(ENDPOINTS)}, not {endpoint!r}")
        seconds = window_seconds(window)
        stored = files.find(input_file_id)
        if stored is None:
            raise InputError(f"input_file_id: there is no file {input_file_id!r}")
        if stored.purpose != "batch":
            raise InputError(
                f"input_file_id: {stored.id} has the purpose {stored.purpose!r}: it must be 'batch'"
            )
        if sum(not batch.is_over for batch in self._store.all()) >= _MOST_UNFINISHED:
            raise ConflictError(
                f"{_MOST_UNFINISHED} batches are not finished yet: wait for one, or cancel one"
            )
        now = int(time.time())
        batch = Batch(
            id=new_id("batch"),
            endpoint=endpoint,
            input_file_id=stored.id,
            completion_window=window,
            created_at=now,
            expires_at=now + seconds,
            output_id=new_id("file"),
            error_id=new_id("file"),
            metadata=metadata,
        )
        self._store.add(batch)
        self._worker.begin(batch.id)
        return batch

    def find(self, batch_id: object) -> Batch | None:
        """Return a batch as it is now; None if there is none with this id."""
        self._open()
        return self._store.find(batch_id)

    def all(self) -> list[Batch]:
        """Return all batches, the newest first."""
        self._open()
        return self._store.all()

    def cancel(self, batch: Batch) -> Batch:
        """Have a batch end with the answers that it has. ConflictError if it has ended."""
        self._open()
        batch = self._store.move(batch.id, "cancelling", since=CAN_BE_CANCELLED)
        if batch.status not in CAN_BE_CANCELLED:
            raise ConflictError(f"{batch.id} is {batch.status} and cannot be cancelled")
        self._worker.wake()
        return batch

    def delete(self, stored: StoredFile) -> None:
        """Delete a file. ConflictError if an unfinished batch needs it."""
        files = self.files
        for batch in self._store.all():
            if not batch.is_over and stored.id in (batch.input_file_id, *batch.results):
                raise ConflictError(
                    f"{stored.id} is the input of {batch.id}, which is {batch.status}: cancel it "
                    "first"
                )
        files.delete(stored.id)

    def _open(self) -> None:
        """Own the folder, and go on with the batches in it; later calls do nothing."""
        with self._lock:
            if self._is_open:
                return
            if self._closing.is_set() or not self._folder.own():
                raise ElsewhereError(
                    f"another l4 serve has the files and batches in {self._folder.root}: ask that "
                    "one, or start this one with another XDG_STATE_HOME"
                )
            self._files.load()
            self._store.load()
            self._is_open = True
            unfinished = [batch for batch in reversed(self._store.all()) if not batch.is_over]
            for batch in unfinished:
                self._note(f"{batch.id} goes on: {batch.status}")
                self._worker.begin(batch.id)

    def _keep_trying(self) -> None:
        while not self._closing.wait(_RETRY):
            try:
                self._open()
            except ElsewhereError:
                continue
            except OutputError as error:
                self._note(f"there are no batches: {error}")
            return


def window_seconds(window: str) -> int:
    """Return the seconds of a completion window such as "24h", "30m" or "7d"."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", window, re.ASCII)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _MOST_DAYS * _SECONDS["d"]:
        raise InputError(
            f'completion_window must be a time such as "24h", "30m" or "7d", not {window!r}'
        )
    return seconds
