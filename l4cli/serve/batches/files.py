"""The uploaded files, and the results of batches."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from l4cli.serve.batches.folder import NEW, Folder, private, sync, writing
from l4cli.serve.batches.ids import is_id


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is whole. `filename` is what its uploader called it: never a path."""

    id: str
    filename: str
    purpose: str
    num_bytes: int
    created_at: int

    def shown(self) -> dict[str, Any]:
        """Return OpenAI's JSON."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.num_bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "expires_at": None,
            "status_details": None,
        }


class FileStore:
    """All files of a folder that this process owns. Any thread may use it."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder.files
        self._lock = threading.Lock()
        self._files: dict[str, StoredFile] = {}

    def load(self) -> None:
        """Find the files on disk, and remove what is left of uploads that were cut off."""
        for path in self._folder.iterdir():
            if path.name.startswith(NEW):
                shutil.rmtree(path, ignore_errors=True)
            elif is_id("file", path.name) and (stored := _read(path)):
                self._files[path.name] = stored

    def find(self, file_id: object) -> StoredFile | None:
        return self._files.get(file_id) if isinstance(file_id, str) else None

    def all(self) -> list[StoredFile]:
        """Return all files, the newest first."""
        with self._lock:
            files = list(self._files.values())
        return sorted(files, key=lambda one: (one.created_at, one.id), reverse=True)

    def path(self, file_id: str) -> Path:
        """Where the content of a file lies; `file_id` is an id, or this is a bug."""
        assert is_id("file", file_id)
        return self._folder / file_id / "content"

    def incoming(self) -> Incoming:
        """Begin a file. OutputError if that is not possible."""
        return Incoming(self, self._folder)

    def take(self, stored: StoredFile, folder: Path) -> None:
        """Make what lies in a folder of its own a file of the store."""
        place = self._folder / stored.id
        with self._lock, writing(place):
            folder.rename(place)
            sync(self._folder)
            self._files[stored.id] = stored

    def delete(self, file_id: str) -> None:
        """Remove a file. OutputError if that is not possible."""
        assert is_id("file", file_id)
        gone = self._folder / f"{NEW}{secrets.token_hex(8)}"
        with self._lock, writing(self._folder / file_id):
            (self._folder / file_id).rename(gone)
            del self._files[file_id]
        shutil.rmtree(gone, ignore_errors=True)


class Incoming:
    """A file on its way to the store. `close` it: what was not kept is removed."""

    def __init__(self, store: FileStore, folder: Path) -> None:
        self._store = store
        self._place = folder / f"{NEW}{secrets.token_hex(8)}"
        self.num_bytes = 0
        with writing(self._place):
            self._place.mkdir(mode=0o700)
            self._file = open(self._place / "content", "wb", opener=private)  # noqa: SIM115

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        """Append to the content. OutputError if the disk is full."""
        with writing(self._place):
            self._file.write(data)
        self.num_bytes += len(data)

    def keep(self, file_id: str, filename: str, purpose: str) -> StoredFile:
        """Put the file into the store, whole and on disk. OutputError if that is not possible."""
        stored = StoredFile(file_id, filename, purpose, self.num_bytes, int(time.time()))
        with writing(self._place):
            about = open(self._place / "about.json", "wb", opener=private)  # noqa: SIM115
            with self._file, about:
                about.write(json.dumps(asdict(stored)).encode())
                for file in (self._file, about):
                    file.flush()
                    os.fsync(file.fileno())
            sync(self._place)
        self._store.take(stored, self._place)
        return stored

    def close(self) -> None:
        """Remove what was not kept; idempotent."""
        with suppress(OSError):  # what could not be written is not wanted
            self._file.close()
        shutil.rmtree(self._place, ignore_errors=True)


def _read(path: Path) -> StoredFile | None:
    """Return the file in a folder; None if it is damaged, which leaves it as it is."""
    try:
        stored = StoredFile(**json.loads((path / "about.json").read_bytes()))
        is_whole = (path / "content").stat().st_size == stored.num_bytes
    except (OSError, ValueError, TypeError):
        return None
    return stored if is_whole and stored.id == path.name else None
