"""Saves the notes on parts as they are made, so a killed run can continue.

There is one file of JSON lines for each combination of a model, documents and questions. Each line
has a note and the digest of its request's tokens and settings. An incomplete last line, left by a
kill, is cut off.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from l4cli.engine.types import FinishReason, Request
from l4cli.errors import OutputError, UsageError
from l4cli.paths import state_dir

try:
    import fcntl
except ImportError:  # Windows has no flock: there, nothing stops two runs from using one file
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Noted:
    """The model's reply to one prompt."""

    text: str
    finish_reason: FinishReason


def journal_path(model: str, documents: Iterable[str], questions: Iterable[str]) -> Path:
    """Return the path of a journal.

    model: the model's fingerprint.
    documents: the documents' digests.
    questions: the questions.
    """
    identity = json.dumps([model, list(documents), list(questions)])
    name = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return state_dir() / "ask" / f"{name}.jsonl"


def key_of(request: Request) -> str:
    """Return a digest of a request's tokens and settings, without the seed (drawn at random)."""
    params = {**asdict(request.params), "seed": None}
    settings = json.dumps(params, sort_keys=True).encode()
    tokens = ",".join(map(str, request.prompt)).encode()
    return hashlib.sha256(settings + b"\n" + tokens).hexdigest()[:32]


class SplitJournal:
    """The notes of one run, open for appending and locked.

    Raises UsageError if another run has the file open, OutputError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.noted: dict[str, Noted] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
        except OSError as error:
            raise OutputError(f"cannot keep notes in {path}: {error.strerror}") from error
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise UsageError(
                    "another l4 is reading these documents for this question; wait for it"
                ) from None
        self._end = self._read()
        self._cut()

    def __enter__(self) -> SplitJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: str, noted: Noted) -> None:
        """Save one note. Raises OutputError if it cannot be written."""
        line = json.dumps({"key": key, **asdict(noted)}).encode() + b"\n"
        try:
            # An almost full disk writes fewer bytes without an error; only the next write fails.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._cut()
            raise OutputError(
                f"cannot keep notes in {self.path}: {error.strerror}; those so far are kept"
            ) from error
        self._end += len(line)
        self.noted[key] = noted

    def discard(self) -> None:
        """Delete the file: the run is over and its notes are no longer needed."""
        self.path.unlink(missing_ok=True)

    def _cut(self) -> None:
        """Cut off everything after the last complete line."""
        self._file.truncate(self._end)
        self._file.seek(self._end)

    def _read(self) -> int:
        """Read the complete lines into `noted`; return the offset of their end."""
        end = 0
        for line in self._file.readall().splitlines(keepends=True):
            try:
                entry = json.loads(line)
                noted = Noted(entry["text"], entry["finish_reason"])
                key = entry["key"]
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            self.noted[key] = noted
            end += len(line)
        return end
