"""Notes on parts kept as they are made, so that a run that was killed goes on behind them.

A file of JSON lines for each model, set of documents and questions: what a prompt was answered, by
the digest of its tokens and settings. A torn last line is the kill's doing, and is cut off.
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
except ImportError:  # Windows has no flock; two runs at once are then the user's care
    fcntl = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Noted:
    """What the model said to one prompt."""

    text: str
    finish_reason: FinishReason


def journal_path(model: str, documents: Iterable[str], questions: Iterable[str]) -> Path:
    """Where the notes lie of a model (its fingerprint) on documents (digests) and questions."""
    identity = json.dumps([model, list(documents), list(questions)])
    name = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return state_dir() / "ask" / f"{name}.jsonl"


def key_of(request: Request) -> str:
    """Stands for a request's tokens and settings. A seed that was drawn for it says nothing."""
    params = {**asdict(request.params), "seed": None}
    settings = json.dumps(params, sort_keys=True).encode()
    tokens = ",".join(map(str, request.prompt)).encode()
    return hashlib.sha256(settings + b"\n" + tokens).hexdigest()[:32]


class SplitJournal:
    """The notes of one run, open for more; UsageError where another run has them open."""

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
        """Keep one note; OutputError where the disk does not take it."""
        line = json.dumps({"key": key, **asdict(noted)}).encode() + b"\n"
        try:
            # An almost full disk takes a part without complaint; only the next write fails.
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
        """The run is over: nothing of it will be asked again."""
        self.path.unlink(missing_ok=True)

    def _cut(self) -> None:
        """Leave what is whole, and go on behind it."""
        self._file.truncate(self._end)
        self._file.seek(self._end)

    def _read(self) -> int:
        """Take in the lines that are whole; where they end."""
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
