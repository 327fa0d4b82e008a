"""The documents in the reading cache, for `l4 docs`: a JSON file for each, next to its segments.

The catalogue only informs users: a prefix is found by its tokens, whatever the catalogue says.
"""

from __future__ import annotations

import contextlib
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

    segments: those that still exist; others may have been pruned.
    n_bytes: of these segments, including those that other documents share.
    used: seconds since the epoch.
    num_stored_tokens: tokens before the first missing segment.
    """

    document: StoredDocument
    path: Path
    segments: tuple[Path, ...]
    n_bytes: int
    used: float
    num_stored_tokens: int


def note_document(states: StateDirectory, document: StoredDocument, tokens: Sequence[int]) -> None:
    """Add a document whose prefix has `tokens`; if that cannot be written, do nothing."""
    segments = chain.segments(tokens, exact=True)
    record = {
        **asdict(document),
        "parts": [[segment.name, segment.stop] for segment in segments],
    }
    path = states.path / f"{segments[-1].before}-{segments[-1].digest}{_SUFFIX}"
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
    found = [entry for path in root.glob(f"*/*{_SUFFIX}") if (entry := _entry(path))]
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def others(root: Path) -> tuple[int, int]:
    """The number and bytes of segments that belong to no document, such as conversations'."""
    known = {segment for entry in entries(root) for segment in entry.segments}
    files = [path for path in root.glob(f"*/*{chain.SUFFIX}") if path not in known]
    return len(files), sum(_size(path) for path in files)


def remove(root: Path, entry: Entry) -> int:
    """Remove a document and those of its segments that no other has; return the bytes freed."""
    kept = {
        segment for other in entries(root) if other.path != entry.path for segment in other.segments
    }
    freed = 0
    for segment in reversed(entry.segments):
        if segment not in kept:
            freed += _size(segment)
            segment.unlink(missing_ok=True)
    entry.path.unlink(missing_ok=True)
    return freed


def prune(root: Path, limit: int) -> int:
    """Prune segments, and remove documents without any left; return the bytes freed."""
    freed = directory.prune(root, limit)
    for path in root.glob(f"*/*{_SUFFIX}"):
        if not _entry(path):
            path.unlink(missing_ok=True)
    return freed


def _entry(path: Path) -> Entry | None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        record = json.loads(path.read_text("utf-8"))
        segments = [(path.parent / name, int(stop)) for name, stop in record["parts"]]
        there = [(segment, stop) for segment, stop in segments if segment.exists()]
        if not there:
            return None
        document = StoredDocument(tuple(record["names"]), record["model"], record["num_tokens"])
        whole = 0
        for segment, stop in segments:
            if not segment.exists():
                break
            whole = stop
        return Entry(
            document=document,
            path=path,
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
