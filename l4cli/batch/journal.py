"""An output file that a killed run can go on with.

Beside OUT lies OUT.journal: a first line with the settings, then one line for each row of OUT with
the digest of the input line it answers and where it ends in OUT. A row is written before its
entry, so after kill -9 at any moment the last whole entry tells what of OUT is whole: the rest is
cut off, the input is checked against the digests, and the run goes on behind them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from l4cli.batch.rows import DIGEST_BYTES, BadRow, Row
from l4cli.errors import InputError, OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no flock; two runs into one file are then the user's care
    fcntl = None  # type: ignore[assignment]

_VERSION = 1


@dataclass(slots=True)
class _Done:
    """What an earlier run left whole: rows by their digests, and where both files end."""

    digests: bytearray = field(default_factory=bytearray)
    end: int = 0
    journal_end: int = 0


class JournaledOutput:
    """OUT and its journal, open for appending.

    `settings` is whatever must be equal for the rows of one file to belong together. Without
    `resume` a file that is there already is refused (UsageError), never overwritten.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self.path = path
        self.journal_path = path.with_name(path.name + ".journal")
        self._settings = {"version": _VERSION, **settings}
        self._done = _Done()
        if resume and self.journal_path.exists():
            self._done = self._read_journal()
        if not self._done.journal_end and path.exists() and path.stat().st_size:
            hint = "has no journal to resume by" if resume else "would be overwritten"
            raise UsageError(
                f"{path} is there already and {hint}: "
                "go on with it with --resume, or give another -o"
            )
        try:
            self._journal = _open_locked(self.journal_path, self._done.journal_end)
            self._out = path.open("ab", buffering=0)
            self._out.truncate(self._done.end)
            if not self._done.journal_end:
                self._append(self._settings)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> JournaledOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_done(self) -> int:
        """Rows that an earlier run has answered."""
        return len(self._done.digests) // DIGEST_BYTES

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that are left to do; InputError if one that is done has changed since."""
        remaining = iter(rows)
        for start in range(0, len(self._done.digests), DIGEST_BYTES):
            row = next(remaining, None)
            if row is None or row.digest != self._done.digests[start : start + DIGEST_BYTES]:
                where = f"line {row.line}" if row else "its end"
                raise InputError(
                    f"the input is not the one that {self.path} was begun with: it differs "
                    f"at {where}; give that one, or another -o"
                )
        yield from remaining

    def write(self, line: str, digest: bytes) -> None:
        """Append one row and its entry; OutputError, naming the file, if the disk is full."""
        data = line.encode() + b"\n"
        end = self._done.end + len(data)
        try:
            self._out.write(data)
            self._append({"row": digest.hex(), "end": end})
        except OSError as error:
            self._out.truncate(self._done.end)
            raise OutputError(
                f"cannot write to {self.path}: {error.strerror}; "
                "its rows so far are whole, go on with --resume"
            ) from error
        self._done.end = end

    def close(self) -> None:
        """Bring both files to the disk and close them; idempotent."""
        for file in (self._out, self._journal):
            if not file.closed:
                os.fsync(file.fileno())
                file.close()

    def _read_journal(self) -> _Done:
        """The entries that are whole and whose rows are whole too; UsageError on other settings."""
        size = self.path.stat().st_size if self.path.exists() else 0
        done = _Done()
        with self.journal_path.open("rb") as journal:
            for line in journal:
                try:
                    entry = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n") or entry.get("end", 0) > size:
                    break
                if done.journal_end:
                    done.digests += bytes.fromhex(entry["row"])
                    done.end = entry["end"]
                else:
                    self._check_settings(entry)
                done.journal_end += len(line)
        return done

    def _check_settings(self, before: Mapping[str, Any]) -> None:
        for name in {**before, **self._settings}:
            old, new = before.get(name), self._settings.get(name)
            if old != new:
                raise UsageError(
                    f"{self.path} was begun with {name} {_short(old)}, now it is {_short(new)}: "
                    "give the same, or another -o"
                )

    def _append(self, value: Mapping[str, Any]) -> None:
        self._journal.write(json.dumps(value).encode() + b"\n")


def _open_locked(path: Path, end: int) -> BinaryIO:
    """The journal cut off at `end`, open for appending, and ours alone while it is open."""
    file = path.open("ab", buffering=0)
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UsageError(f"another run is writing to {path.with_suffix('')}") from None
    file.truncate(end)
    return file


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
