"""The journal: which bytes of an unfinished output are safely on disk.

OUT.part.journal lies next to OUT.part and has one JSON object a line. The first line holds the
settings: everything that must be equal for two conversions to write the same bytes. Each further
line lists byte ranges of tensor data that are done, and the last one says that the files are whole.
A line is written only after the data it describes has been synced, so neither kill -9 nor a power
cut leaves a line that claims too much. An incomplete last line is ignored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.checkpoint.checkpoint import StoredTensor
from convert.checkpoint.provenance import version_of
from convert.checkpoint.tensors import View
from convert.errors import ConvertError
from convert.types import Plan
from convert.writing.layout import Layout
from convert.writing.ranges import Range, is_covered, merge, n_covered

_VERSION = 1

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Recorded:
    """The content of a journal.

    settings: those of the conversion; None: there is no journal, or it is empty.
    done: the byte ranges of tensor data that are on disk, merged.
    is_whole: whether every file is complete and synced.
    """

    settings: Settings | None = None
    done: list[Range] = field(default_factory=list)
    is_whole: bool = False

    def covers(self, start: int, end: int) -> bool:
        return is_covered(self.done, start, end)

    @property
    def n_done(self) -> int:
        return n_covered(self.done)


class Journal:
    """The journal of the output `path`, locked against other conversions while it is open.

    Creating it raises ConvertError if another conversion holds the lock. All methods raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = journal_path(path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConvertError(f"{path}: another conversion is writing it") from None
        except OSError:
            return  # a file system without locks
        if not os.path.samestat(os.fstat(self._fd), self.path.stat()):
            # Between our open and our lock its owner finished and removed the file.
            self.close()
            raise ConvertError(f"{path}: another conversion has just written it")

    def clear(self) -> None:
        """Delete every record."""
        os.ftruncate(self._fd, 0)
        os.fsync(self._fd)

    def begin(self, settings: Settings) -> None:
        """Write the settings as the first line. The part files must exist by now."""
        self._append(settings)

    def go_on(self) -> None:
        """Cut off an incomplete last line, so that new records can be appended."""
        os.ftruncate(self._fd, sum(len(line) for line, _ in _lines(self.path)))

    def record(self, ranges: list[Range]) -> None:
        """Record byte ranges of tensor data that have been synced."""
        self._append({"done": merge(ranges)})

    def record_whole(self) -> None:
        """Record that every file is whole and synced."""
        self._append({"whole": True})

    def remove(self) -> None:
        """Remove the file. It still has to be closed."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and release the lock; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _append(self, value: Mapping[str, Any]) -> None:
        line = memoryview(json.dumps(value).encode() + b"\n")
        while line:
            line = line[os.write(self._fd, line) :]
        os.fsync(self._fd)


def journal_path(path: Path) -> Path:
    """The path of the journal of the output `path`."""
    return path.with_name(path.name + ".part.journal")


def is_busy(path: Path) -> bool:
    """Whether a conversion into `path` is under way."""
    try:
        fd = os.open(journal_path(path), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(fd)
    return False


def read_journal(path: Path) -> Recorded:
    """The content of the journal of the output `path`; an empty `Recorded` if there is none."""
    entries = [entry for _, entry in _lines(journal_path(path))]
    if not entries:
        return Recorded()
    done = [(start, end) for entry in entries[1:] for start, end in entry.get("done", ())]
    return Recorded(entries[0], merge(done), "whole" in entries[-1])


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the valid lines, raw and parsed, up to the first that is incomplete or malformed."""
    raw = b""
    with suppress(FileNotFoundError):
        raw = path.read_bytes()
    for index, line in enumerate(raw.splitlines(keepends=True)):
        try:
            entry = json.loads(line)
        except ValueError:
            return
        is_sound = _is_record(entry) if index else _is_settings(entry)
        if not line.endswith(b"\n") or not is_sound:
            return
        yield line, entry


def _is_settings(entry: Any) -> bool:
    return isinstance(entry, dict) and {"journal", "files", "n_data"} <= entry.keys()


def _is_record(entry: Any) -> bool:
    if entry == {"whole": True}:
        return True
    done = entry.get("done") if isinstance(entry, dict) else None
    return isinstance(done, list) and all(
        isinstance(pair, list) and [type(n) for n in pair] == [int, int] for pair in done
    )


def settings_of(plan: Plan, layout: Layout) -> dict[str, Any]:
    """Everything that must be equal for a conversion to resume another one's part files."""
    digest = hashlib.sha256(b"".join(file.header for file in layout.files))
    return {
        "journal": _VERSION,
        "type": plan.ftype,
        "files": [file.path.name for file in layout.files],
        "n_data": sum(file.n_data for file in layout.files),
        # This covers config, tokenizer, model card and recipe: their results are in the header.
        "metadata and types": digest.hexdigest(),
        "l4": version_of("l4"),
        "llama-cpp-python": version_of("llama-cpp-python"),  # the kernels
        **_source_settings(plan),
        **{f"imatrix {path.name}": _digest(path) for path in sorted(_imatrices(plan))},
    }


def check_settings(part: Path, before: Settings, now: Settings) -> None:
    """Raise ConvertError, naming the first difference, unless both settings are equal."""
    for name in {**now, **before}:
        old, new = before.get(name), now.get(name)
        if old != new:
            raise ConvertError(
                f"{part}: was begun with {name} {_short(old)}, now it is {_short(new)}; "
                "give the same, or start over without --resume"
            )


def _source_settings(plan: Plan) -> dict[str, str]:
    """What identifies the weights: a fingerprint of each shard, or a ShardStore's revision."""
    if plan.shards is not None:
        return {"revision": plan.shards.revision}
    return {path.name: _fingerprint(path, start) for path, start in sorted(_shards(plan).items())}


def _shards(plan: Plan) -> dict[Path, int]:
    """Every file the weights come from, and the byte at which its first tensor begins."""
    starts: dict[Path, int] = {}
    for stored in stored_tensors(plan):
        starts[stored.path] = min(stored.offset, starts.get(stored.path, stored.offset))
    return starts


def stored_tensors(plan: Plan) -> Iterator[StoredTensor]:
    """Yield every stored tensor that the plan reads; some come more than once."""
    for tensor in plan.tensors:
        for matrix in tensor.output.matrices:
            if isinstance(matrix, View):
                yield from matrix.reads


def _fingerprint(path: Path, data_start: int) -> str:
    """Size, modification time and header digest of a shard. Its weights are not read."""
    try:
        status = path.stat()
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(data_start)).hexdigest()
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}; fetch it again") from None
    return f"{status.st_size} bytes, changed {status.st_mtime_ns}, header {digest[:16]}"


def _imatrices(plan: Plan) -> set[Path]:
    """The imatrix file the plan uses, as a set of one path; empty if it uses none."""
    return {tensor.importance.path for tensor in plan.tensors if tensor.importance is not None}


def _digest(path: Path) -> str:
    """A digest of a whole file; an imatrix is small compared with the weights."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ConvertError(f"{path}: {error.strerror}; give the imatrix again") from None
    return digest.hexdigest()[:16]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
