"""A file of JSON lines that several processes read and rewrite: what was measured, kept for later.

Nothing depends on such a file: what cannot be read counts as not there, and callers drop what
cannot be written.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no flock: if two processes write at once, one's records are lost
    fcntl = None  # type: ignore[assignment]


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file; lines that are not records are skipped."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield record


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Until the end, no other process reads the file to rewrite it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_records(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Replace the file's records in one step. The file must be locked. Raises OSError."""
    lines = [json.dumps(record) for record in records]
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    part.replace(path)
