"""An output file OUT with a journal, so a killed run can be resumed.

The journal OUT.journal lies in the same folder. Its first line holds the settings. Each further
line describes one row of OUT: the digest of the input line that the row answers, the row's end
offset in OUT, and whether it is an error. A row is written before its journal entry. So after
kill -9 at any moment, the last complete entry says how much of OUT is complete. To resume, the
rest of OUT is cut off, the input is checked against the digests, and the run continues after the
rows that are done. In memory, each row of an earlier run takes 17 bytes.

If llama.cpp crashed, the journal has a line for the crash with the digests of the rows in progress
at that moment (written by `l4cli/native/watcher.py`).
"""

from __future__ import annotations

import errno
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from l4cli.batch.rows import DIGEST_BYTES, BadRow, Row
from l4cli.batch.suspects import Crash, Suspects
from l4cli.errors import InputError, OutputError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no flock: there, nothing stops two runs from writing one file
    fcntl = None  # type: ignore[assignment]

_VERSION = 2


@dataclass(slots=True)
class Done:
    """The complete rows of an earlier run, in the order of OUT.

    digests: DIGEST_BYTES for each row.
    ends: each row's end offset in OUT.
    failed: 1 for each row that is an error, otherwise 0.
    crashes: the crashes of earlier runs.
    journal_end: the length of the journal's complete entries, in bytes; 0 without a journal.
    """

    digests: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("Q"))
    failed: bytearray = field(default_factory=bytearray)
    crashes: list[Crash] = field(default_factory=list)
    journal_end: int = 0

    @property
    def num_rows(self) -> int:
        return len(self.ends)

    @property
    def end(self) -> int:
        """The end of OUT's last complete row, in bytes."""
        return self.ends[-1] if self.ends else 0

    def start(self, index: int) -> int:
        """Return the offset in OUT at which row `index` starts."""
        return self.ends[index - 1] if index else 0

    def digest(self, index: int) -> bytes:
        return bytes(self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def add(self, digest: bytes, end: int, failed: bool) -> None:
        self.digests += digest
        self.ends.append(end)
        self.failed.append(failed)


class JournaledOutput:
    """OUT and its journal, open for appending.

    path: the output file OUT.
    settings: the settings that all rows of one file must share, as JSON values by name.
    resume: continue an existing file. Without it, an existing file raises UsageError; it is never
        overwritten.
    unordered: rows are in the order they finished, so they are identified by their digests alone.

    Raises OutputError if the files cannot be written.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, resume: bool, unordered: bool = False
    ) -> None:
        self.path = path
        self.unordered = unordered
        journal = journal_of(path)
        self.done = Done()
        if resume and journal.exists():
            self.done = read_journal(path, settings)
        if not self.done.journal_end and path.exists() and path.stat().st_size:
            hint = (
                "has no journal to resume from: give another -o"
                if resume
                else "would be overwritten: continue it with --resume, or give another -o"
            )
            raise UsageError(f"{path} already exists and {hint}")
        self._end = self.done.end
        try:
            self._journal_file = open_locked(journal, self.done.journal_end)
            self._out = path.open("ab", buffering=0)
            self._out.truncate(self._end)
            if not self.done.journal_end:
                self._append({"version": _VERSION, **settings})
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> JournaledOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_done(self) -> int:
        """The number of rows that earlier runs have written, errors included."""
        return self.done.num_rows

    @property
    def num_failed(self) -> int:
        """How many of the `num_done` rows are errors."""
        return sum(self.done.failed)

    @property
    def journal(self) -> Path:
        """The file in which a crash is recorded."""
        return journal_of(self.path)

    @property
    def suspects(self) -> Suspects:
        """The rows that may have caused crashes of earlier runs."""
        return Suspects(self.done.crashes)

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows still to do. Raises InputError if a row already done has changed since."""
        if self.unordered:
            return left_over(rows, [self.done], self.path)
        return self._skip_first(rows)

    def write(self, line: str, digest: bytes, *, failed: bool = False) -> None:
        """Append one row and its entry. Raises OutputError if the disk is full."""
        self.write_bytes(line.encode() + b"\n", digest, failed=failed)

    def write_bytes(self, data: bytes, digest: bytes, *, failed: bool) -> None:
        """Append one row as bytes that include the newline, and its entry."""
        end = self._end + len(data)
        entry = {"row": digest.hex(), "end": end, **({"error": True} if failed else {})}
        try:
            _write_all(self._out, data)
            self._append(entry)
        except OSError as error:
            self._out.truncate(self._end)
            raise OutputError(
                f"cannot write to {self.path}: {error.strerror}; "
                "the rows written so far are complete, continue with --resume"
            ) from error
        self._end = end

    def finish(self) -> None:
        """Called after the last row of the input has been written; does nothing here."""

    def close(self) -> None:
        """Flush both files to disk and close them; idempotent."""
        for file in (self._out, self._journal_file):
            if not file.closed:
                os.fsync(file.fileno())
                file.close()

    def _skip_first(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        remaining = iter(rows)
        for index in range(self.done.num_rows):
            row = next(remaining, None)
            if row is None or row.digest != self.done.digest(index):
                raise changed_input(self.path, row)
        yield from remaining

    def _append(self, value: Mapping[str, Any]) -> None:
        _write_all(self._journal_file, json.dumps(value).encode() + b"\n")


def journal_of(path: Path) -> Path:
    """Return the path of an output file's journal."""
    return path.with_name(path.name + ".journal")


def read_journal(path: Path, settings: Mapping[str, Any]) -> Done:
    """Read the journal's complete entries, up to the first whose row is not complete in OUT.

    Raises UsageError if the journal has other settings than `settings`.
    """
    size = path.stat().st_size if path.exists() else 0
    done = Done()
    with journal_of(path).open("rb") as journal:
        for line in journal:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or entry.get("end", 0) > size:
                break
            if "crash" in entry:
                rows = tuple(bytes.fromhex(row) for row in entry["rows"])
                done.crashes.append(Crash(entry["crash"], rows))
            elif done.journal_end:
                done.add(bytes.fromhex(entry["row"]), entry["end"], entry.get("error", False))
            else:
                _check_settings(path, entry, {"version": _VERSION, **settings})
            done.journal_end += len(line)
    return done


def left_over(
    rows: Iterable[Row | BadRow], parts: list[Done], path: Path
) -> Iterator[Row | BadRow]:
    """Yield the rows that none of `parts` contains; the order within `parts` does not matter.

    Raises InputError at the end of the input if `parts` contain rows that the input does not.
    """
    import numpy as np

    digests = b"".join(bytes(part.digests) for part in parts)
    known = np.unique(np.frombuffer(digests, np.uint64))
    num_met = 0
    for row in rows:
        digest = np.frombuffer(row.digest, np.uint64)[0]
        at = int(np.searchsorted(known, digest))
        if at < len(known) and known[at] == digest:
            num_met += 1
        else:
            yield row
    if num_met < len(known):
        raise InputError(
            f"the input has changed since {path} was started: "
            f"{len(known) - num_met} of the rows answered there are no longer in the input"
        )


def changed_input(path: Path, row: Row | BadRow | None) -> InputError:
    """Return the error for an input that differs from the one `path` was started with.

    `row` is the first row that differs; None if the input is too short.
    """
    where = f"line {row.line}" if row else "its end"
    return InputError(
        f"the input has changed since {path} was started: it differs at {where}; "
        "give the original input, or another -o"
    )


def open_locked(path: Path, end: int | None = None) -> BinaryIO:
    """Open a journal for appending, locked against other runs, and cut it off at `end`.

    Raises UsageError if another run has it open.
    """
    file = path.open("ab", buffering=0)
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UsageError(f"another run is writing to {path.with_suffix('')}") from None
    if end is not None:
        file.truncate(end)
    return file


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data`, or raise OSError.

    An almost full disk writes fewer bytes without an error; only the next write would fail.
    """
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old != new:
            raise UsageError(
                f"{path} was started with {name} {_short(old)}, but now it is {_short(new)}: "
                "give the same, or another -o"
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
