"""The documents in the reading cache, for `l4 docs`: JSON files next to their segments.

The same text may be read under several names (a DOCX, its text file, stdin). Each name has a file
of its own, so that no process can overwrite a name that another one adds.

The catalogue only informs users: a prefix is found by its tokens, whatever the catalogue says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from l4cli.store import chain, directory
from l4cli.store.directory import StateDirectory

_SUFFIX = ".document.json"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """Documents that were read together for a model, with the names that the user gave them."""

    names: tuple[str, ...]
    model: str
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored document with its segments.

    document: as it was read last.
    also: the other names that it was read under, each with those of the documents read together.
    paths: its files in the catalogue, one for each name.
    segments: those that still exist; others may have been pruned.
    n_bytes: of these segments, including those that other documents share.
    used: seconds since the epoch.
    num_stored_tokens: tokens before the first missing segment.
    """

    document: StoredDocument
    also: tuple[tuple[str, ...], ...]
    paths: tuple[Path, ...]
    segments: tuple[Path, ...]
    n_bytes: int
    used: float
    num_stored_tokens: int

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a document of this entry was read under."""
        return tuple(
            dict.fromkeys(name for read in (self.document.names, *self.also) for name in read)
        )


@dataclass(frozen=True, slots=True)
class _Record:
    """A file of the catalogue. parts: the segments' names, and the tokens up to their ends."""

    path: Path
    document: StoredDocument
    parts: tuple[tuple[str, int], ...]
    written: float


def note_document(states: StateDirectory, document: StoredDocument, tokens: Sequence[int]) -> None:
    """Add a document whose prefix has `tokens`; if that cannot be written, do nothing."""
    segments = chain.segments(tokens, exact=True)
    record = {
        **asdict(document),
        "parts": [[segment.name, segment.stop] for segment in segments],
    }
    named = hashlib.blake2b("\0".join(document.names).encode(errors="surrogatepass"), digest_size=8)
    last = segments[-1]
    path = states.path / f"{last.before}-{last.digest}-{named.hexdigest()}{_SUFFIX}"
    partial = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        states.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(record, file)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)


def entries(root: Path) -> list[Entry]:
    """All documents with a stored segment, last used first."""
    found = [entry for records in _records(root) if (entry := _entry(records))]
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def others(root: Path) -> tuple[int, int]:
    """The number and bytes of segments that belong to no document, such as conversations'."""
    known = {segment for entry in entries(root) for segment in entry.segments}
    files = [path for path in root.glob(f"*/*{chain.SUFFIX}") if path not in known]
    return len(files), sum(_size(path) for path in files)


def remove(root: Path, entry: Entry) -> int:
    """Remove a document with all its names, and those of its segments that no other has.

    Returns the bytes freed.
    """
    others = [other for other in entries(root) if other.paths != entry.paths]
    kept = {segment for other in others for segment in other.segments}
    freed = 0
    for segment in reversed(entry.segments):
        if segment not in kept:
            freed += _size(segment)
            segment.unlink(missing_ok=True)
    for path in entry.paths:
        path.unlink(missing_ok=True)
    return freed


def prune(root: Path, limit: int) -> int:
    """Prune segments, and remove documents without any left; return the bytes freed."""
    freed = directory.prune(root, limit)
    for records in _records(root):
        if not _entry(records):
            for record in records:
                record.path.unlink(missing_ok=True)
    return freed


def _records(root: Path) -> list[list[_Record]]:
    """The files of the catalogue: a list for each stored text, the one written last first."""
    texts: dict[tuple[Path, str], list[_Record]] = {}
    for path in root.glob(f"*/*{_SUFFIX}"):
        if record := _record(path):
            texts.setdefault((path.parent, record.parts[-1][0]), []).append(record)
    return [sorted(same, key=lambda record: -record.written) for same in texts.values()]


def _record(path: Path) -> _Record | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        read = json.loads(path.read_text("utf-8"))
        parts = tuple((str(name), int(stop)) for name, stop in read["parts"])
        document = StoredDocument(tuple(read["names"]), read["model"], read["num_tokens"])
        return _Record(path, document, parts, path.stat().st_mtime_ns) if parts else None
    return None


def _entry(records: Sequence[_Record]) -> Entry | None:
    """The entry of a text that was read under one or more names; None if no segment is left."""
    last, *earlier = records
    segments = [(last.path.parent / name, stop) for name, stop in last.parts]
    with contextlib.suppress(OSError):
        there = [(segment, stop) for segment, stop in segments if segment.exists()]
        if not there:
            return None
        whole = 0
        for segment, stop in segments:
            if not segment.exists():
                break
            whole = stop
        return Entry(
            document=last.document,
            also=tuple(record.document.names for record in earlier),
            paths=tuple(record.path for record in records),
            segments=tuple(segment for segment, _ in there),
            n_bytes=sum(_size(segment) for segment, _ in there),
            used=max(segment.stat().st_mtime for segment, _ in there),
            num_stored_tokens=whole,
        )
    return None


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0
