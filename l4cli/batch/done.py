"""What earlier runs have left in an output file and its journal. Reads both and changes neither."""

from __future__ import annotations

import io
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from l4cli.batch.entries import RowEntry, Settings, Whole, read_entries
from l4cli.batch.rows import DIGEST_BYTES, BadRow, Row
from l4cli.batch.suspects import Crash
from l4cli.errors import InputError, UsageError

MODEL_TIME = "the time of the model's file"  # the setting of that name
CONSTRAINT = "constraint"  # the setting that --schema or --grammar sets
# Settings that only stop an answer early: a retry may change them, and answered rows stay right.
LIMITS = frozenset({"--max-tokens", "--row-timeout"})
_OPTIONS = {"json_schema": "--schema", "grammar": "--grammar"}  # by the kind of constraint
_SHORT = 60  # characters of a value that a message shows
_CHUNK = 1 << 16
IsOwn = Callable[[bytes], bool]


def any_line(_line: bytes) -> bool:
    return True


@dataclass(slots=True)
class Done:
    """The complete rows of an earlier run, in the order of OUT.

    digests: DIGEST_BYTES for each row.
    ends: each row's end offset in OUT.
    failed: 1 for each row that is an error, otherwise 0.
    documents: the digest of the document, for each row (by its digest) that was answered with one.
    crashes: the crashes of earlier runs.
    num_unnoted: whole rows of OUT that follow these, and that the journal does not have.
    is_whole: whether the last entry says that OUT.retry is complete.
    changed: how each setting that may differ does, in words.
    journal_end: the length of the journal's complete entries, in bytes; 0 without a journal.
    """

    digests: bytearray = field(default_factory=bytearray)
    ends: array[int] = field(default_factory=lambda: array("Q"))
    failed: bytearray = field(default_factory=bytearray)
    documents: dict[bytes, bytes] = field(default_factory=dict)
    crashes: list[Crash] = field(default_factory=list)
    num_unnoted: int = 0
    is_whole: bool = False
    changed: list[str] = field(default_factory=list)
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

    def add(self, entry: RowEntry) -> None:
        self.digests += entry.digest
        self.ends.append(entry.end)
        self.failed.append(entry.failed)
        if entry.document is not None:
            self.documents[entry.digest] = entry.document


def read_done(
    path: Path,
    journal: BinaryIO,
    name: str,
    settings: Mapping[str, Any],
    is_own: IsOwn = any_line,
    may_differ: Set[str] = frozenset(),
) -> Done:
    """Read what is complete in the output `path`, according to its open journal.

    name: the journal's name in messages.

    is_own: whether a line of OUT, perhaps cut short, is one that l4 writes.

    may_differ: the names of settings that may be others than the journal has.

    An entry whose row is not complete in OUT, as after a power cut, ends what is complete. Raises
    UsageError if the journal has other settings than `settings`, and InputError if it is damaged or
    OUT was edited: what follows the complete rows will be cut off, so it must be l4's own.
    """
    done = Done()
    with (
        path.open("rb") if path.exists() else io.BytesIO() as out,
        os.fdopen(os.dup(journal.fileno()), "rb") as lines,
    ):
        lines.seek(0)
        size = _end_of_last_line(out)
        is_past = False
        for entry, at in read_entries(lines, name):
            if isinstance(entry, RowEntry):
                is_past |= entry.end > size
            if is_past:
                continue
            if isinstance(entry, Settings):
                done.changed = _check_settings(path, entry.values, settings, may_differ)
            elif isinstance(entry, RowEntry):
                done.add(entry)
            elif isinstance(entry, Crash):
                done.crashes.append(entry)
            done.is_whole = isinstance(entry, Whole)
            done.journal_end = at
        _check_rows(path, out, done)
        done.num_unnoted = _check_rest(path, out, done, is_own)
    return done


def left_over(
    rows: Iterable[Row | BadRow], parts: list[Done], path: Path
) -> Iterator[Row | BadRow]:
    """Yield the rows that none of `parts` contains; the order within `parts` does not matter.

    Raises InputError if the document of a row in `parts` has changed, and, at the end of the input,
    if `parts` contain rows that the input does not.
    """
    import numpy as np

    digests = b"".join(bytes(part.digests) for part in parts)
    known = np.unique(np.frombuffer(digests, np.uint64))
    num_met = 0
    for row in rows:
        digest = np.frombuffer(row.digest, np.uint64)[0]
        at = int(np.searchsorted(known, digest))
        if at < len(known) and known[at] == digest:
            for part in parts:
                check_document(part, row, path)
            num_met += 1
        else:
            yield row
    if num_met < len(known):
        raise InputError(
            f"the input has changed since {path} was started: "
            f"{len(known) - num_met} of the rows answered there are no longer in the input"
        )


def check_document(done: Done, row: Row | BadRow, path: Path) -> None:
    """Raise InputError if a row of `done` was answered with another content of its document."""
    known = done.documents.get(row.digest)
    if known is None or row.document_digest == known:
        return
    if isinstance(row, BadRow):
        raise InputError(f"line {row.line}, answered in {path}: {row.error}; restore it")
    name = row.document.path if row.document else ""
    raise InputError(
        f"line {row.line}: its document {name} has changed since {path} was started: "
        "restore the document, or give another -o"
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


def _end_of_last_line(file: BinaryIO) -> int:
    """Where the last line ends that has its line break: what follows was never complete."""
    at = file.seek(0, os.SEEK_END)
    while at:
        start = max(0, at - _CHUNK)
        file.seek(start)
        found = file.read(at - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def _check_rows(path: Path, out: BinaryIO, done: Done) -> None:
    """Raise InputError unless each row of `done` is exactly one line of OUT."""
    out.seek(0)
    at = 0
    for number, end in enumerate(done.ends, 1):
        at += len(out.readline(end - at + 1))
        if at != end:
            raise InputError(
                f"{path}, line {number}: is not as long as l4 wrote it; the file was damaged or "
                "edited: restore it, or give another -o"
            )


def _check_rest(path: Path, out: BinaryIO, done: Done, is_own: IsOwn) -> int:
    """How many whole lines follow the rows of `done`. Raises InputError for one of a user's."""
    out.seek(done.end)
    num_whole = 0
    for number, line in enumerate(out, done.num_rows + 1):
        if line.strip() and not is_own(line):
            raise InputError(
                f"{path}, line {number}: l4 did not write it, and would cut it off; move it and "
                "what follows to another file, or give another -o"
            )
        num_whole += line.endswith(b"\n")
    return num_whole


def _check_settings(
    path: Path, before: Mapping[str, Any], now: Mapping[str, Any], may_differ: Set[str]
) -> list[str]:
    """Return how settings differ that may. Raises UsageError for another one that differs."""
    changed = []
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name)
        if old != new and name in may_differ:
            changed.append(_changed(name, old, new))
        elif old != new:
            retry = "; --retry-errors takes it for the error rows" if name in LIMITS else ""
            hint = (
                f'; if it is the same file, `touch -d "{old}"` on it says so'
                if name == MODEL_TIME and isinstance(old, str) and "," not in old
                else retry
            )
            raise UsageError(
                f"{path} was started {_changed(name, old, new)}: give the same, or another -o, or "
                f"--overwrite to begin again{hint}"
            )
    return changed


def _changed(name: str, old: Any, new: Any) -> str:
    """Say how a setting differs: "with NAME 1, but now it is 2"; of long values, from where on."""
    name, before, now = _option(name, old, new), _text(old), _text(new)
    if not _is_given(old):
        return f"without {name}, but now it is {_short(now)}"
    if not _is_given(new):
        return f"with {name} {_short(before)}, but now it is not given"
    if len(before) <= _SHORT and len(now) <= _SHORT:
        return f"with {name} {before}, but now it is {now}"
    pairs = enumerate(zip(before, now, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), min(len(before), len(now)))
    return (
        f"with another {name}: at character {at + 1} it had {_part(before, at)}, "
        f"but now it has {_part(now, at)}"
    )


def _option(name: str, old: Any, new: Any) -> str:
    """Return the option that sets a setting, if its name in the journal is not that of one."""
    kinds = [value["kind"] for value in (old, new) if name == CONSTRAINT and value]
    return _OPTIONS.get(kinds[0], name) if kinds else name


def _is_given(value: Any) -> bool:
    """Whether a setting was on the command line; a flag that was not is False."""
    return value is not None and value is not False


def _text(value: Any) -> str:
    """Return a setting's value as text: of a constraint, its source."""
    source = value.get("source") if isinstance(value, dict) else None
    if isinstance(source, str):
        return source
    return json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}…"


def _part(text: str, at: int) -> str:
    """Quote a text from `at` on, or say that it ends there."""
    return repr(_short(text[at : at + _SHORT // 2])) if text[at:] else "nothing more"
