"""Saves the notes on parts as they are made, so a killed run can continue.

There is one file of JSON lines for each combination of a model, documents and questions. Each line
has a note and the digest of its request's tokens and settings. An incomplete last line, left by a
kill, is cut off before the next note is added. Any other line that is not a note costs that note,
which is made again; the line stays.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from l4cli.engine.types import FinishReason, Request
from l4cli.errors import OutputError, UsageError
from l4cli.outputs import open_own
from l4cli.paths import state_dir

try:
    import fcntl
except ImportError:  # Windows has no flock: there, nothing stops two runs from using one file
    fcntl = None  # type: ignore[assignment]

_BEGINNING = b'{"key": "'


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

    Raises UsageError if another run has the file open, or if it is not a file of notes, and
    OutputError if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.noted: dict[str, Noted] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = open_own(path, _BEGINNING, "a file of notes of l4 ask --split")
            if descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                descriptor = os.open(path, flags, 0o600)
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

    def __enter__(self) -> SplitJournal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, key: str, noted: Noted) -> None:
        """Save one note. Raises OutputError if it cannot be written."""
        line = json.dumps({"key": key, **asdict(noted)}).encode() + b"\n"
        try:
            self._file.truncate(self._end)
            # An almost full disk writes fewer bytes without an error; only the next write fails.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(self._end)
            raise OutputError(
                f"cannot keep notes in {self.path}: {error.strerror}; those so far are kept"
            ) from error
        self._end += len(line)
        self.noted[key] = noted

    def discard(self) -> None:
        """Delete the file: the run is over and its notes are no longer needed."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> int:
        """Read the notes into `noted`; return the offset of the last complete line's end."""
        data = self._file.readall()
        *lines, torn = data.split(b"\n")
        for line in lines:
            with suppress(ValueError, RecursionError):
                key, noted = _note(json.loads(line))
                self.noted[key] = noted
        return len(data) - len(torn)


def _note(entry: Any) -> tuple[str, Noted]:
    """Return a line's note and its key; ValueError if it is none."""
    if not isinstance(entry, dict) or entry.keys() != {"key", "text", "finish_reason"}:
        raise ValueError("not a note")
    key, text, reason = entry["key"], entry["text"], entry["finish_reason"]
    if type(key) is not str or type(text) is not str or reason not in get_args(FinishReason):
        raise ValueError("not a note")
    text.encode()  # raises UnicodeError, which is a ValueError, for lone surrogates
    return key, Noted(text, reason)
