"""An output file that a killed run can go on with.

Beside OUT lies OUT.journal: a first line with the settings, then one line for each row of OUT with
the digest of the input line it answers, where it ends in OUT, and whether it is an error. A row is
written before its entry, so after kill -9 at any moment the last whole entry tells what of OUT is
whole: the rest is cut off, the input is checked against the digests, and the run goes on behind
them. In memory a row of an earlier run takes 17 bytes.

Where llama.cpp ended the process, a line between them says so, with the digests of the rows that
were in work (`l4cli/native/watcher.py` writes it).
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
except ImportError:  # Windows has no flock; two runs into one file are then the user's care
    fcntl = None  # type: ignore[assignment]

_VERSION = 2


@dataclass(slots=True)
class Done:
    """What an earlier run left whole, a row an index: digests, ends in OUT, which are errors."""

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
        """Where OUT is whole."""
        return self.ends[-1] if self.ends else 0

    def start(self, index: int) -> int:
        """Where a row begins in OUT."""
        return self.ends[index - 1] if index else 0

    def digest(self, index: int) -> bytes:
        return bytes(self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def add(self, digest: bytes, end: int, failed: bool) -> None:
        self.digests += digest
        self.ends.append(end)
        self.failed.append(failed)


class JournaledOutput:
    """OUT and its journal, open for appending.

    `settings` is whatever must be equal for the rows of one file to belong together. Without
    `resume` a file that is there already is refused (UsageError), never overwritten. With
    `unordered` rows stand in the order they were finished in, and are told by their digests alone.
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
            hint = "has no journal to resume by" if resume else "would be overwritten"
            raise UsageError(
                f"{path} is there already and {hint}: "
                "go on with it with --resume, or give another -o"
            )
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
        """Rows that an earlier run has answered."""
        return self.done.num_rows

    @property
    def num_failed(self) -> int:
        """How many of them are errors."""
        return sum(self.done.failed)

    @property
    def journal(self) -> Path:
        """Where a crash is noted."""
        return journal_of(self.path)

    @property
    def suspects(self) -> Suspects:
        """The rows that earlier runs may have crashed on."""
        return Suspects(self.done.crashes)

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that are left to do; InputError if one that is done has changed since."""
        if self.unordered:
            return left_over(rows, [self.done], self.path)
        return self._skip_first(rows)

    def write(self, line: str, digest: bytes, *, failed: bool = False) -> None:
        """Append one row and its entry; OutputError, naming the file, if the disk is full."""
        self.write_bytes(line.encode() + b"\n", digest, failed=failed)

    def write_bytes(self, data: bytes, digest: bytes, *, failed: bool) -> None:
        """Append one row as it stands in a file, its newline included."""
        end = self._end + len(data)
        entry = {"row": digest.hex(), "end": end, **({"error": True} if failed else {})}
        try:
            _write_all(self._out, data)
            self._append(entry)
        except OSError as error:
            self._out.truncate(self._end)
            raise OutputError(
                f"cannot write to {self.path}: {error.strerror}; "
                "its rows so far are whole, go on with --resume"
            ) from error
        self._end = end

    def finish(self) -> None:
        """Every row of the input has been written."""

    def close(self) -> None:
        """Bring both files to the disk and close them; idempotent."""
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
    """The journal that lies beside an output file."""
    return path.with_name(path.name + ".journal")


def read_journal(path: Path, settings: Mapping[str, Any]) -> Done:
    """The entries that are whole and whose rows are whole too; UsageError on other settings."""
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
    """The rows that none of `parts` has, in whatever order those have theirs.

    InputError at the input's end if they have rows that it has not.
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
            f"the input is not the one that {path} was begun with: "
            f"{len(known) - num_met} of its rows are not in the input any more"
        )


def changed_input(path: Path, row: Row | BadRow | None) -> InputError:
    """The error of an input that is not the one a file was begun with."""
    where = f"line {row.line}" if row else "its end"
    return InputError(
        f"the input is not the one that {path} was begun with: it differs at {where}; "
        "give that one, or another -o"
    )


def open_locked(path: Path, end: int | None = None) -> BinaryIO:
    """A journal cut off at `end`, open for appending, and ours alone while it is open."""
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
    """An almost full disk takes a part without complaint; only the next write fails."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old != new:
            raise UsageError(
                f"{path} was begun with {name} {_short(old)}, now it is {_short(new)}: "
                "give the same, or another -o"
            )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
