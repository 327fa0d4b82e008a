"""The journal: which bytes of an unfinished output are safely on disk.

OUT.part.journal lies next to OUT.part and has one JSON object a line. The first line holds the
settings: everything that must be equal for two conversions to write the same bytes. Each further
line lists byte ranges of tensor data that are done, and the last one says that the files are whole;
each has a checksum. A line is written only after the data it describes has been synced, so neither
kill -9 nor a power cut leaves a line that claims too much. An incomplete last line is ignored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.checkpoint.checkpoint import StoredTensor
from convert.checkpoint.tensors import View
from convert.errors import ConvertError
from convert.types import Plan
from convert.versions import version_of
from convert.writing.layout import Layout
from convert.writing.ranges import Range, is_covered, merge, n_covered

_VERSION = 1
_BEGINNING = b'{"journal": %d' % _VERSION
_SPLIT_FILE = re.compile(r"-\d{5}-of-\d{5}\.gguf")

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

    Creating it raises ConvertError if another conversion holds the lock, or if there is a file of
    that name that is no journal. All methods raise OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = journal_path(path)
        self._out = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            _content(self.path)  # raises ConvertError if it is not a journal
            self._fd = os.open(self.path, flags)
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
        """Write the settings as the first line. From now on the part files it lists are l4's."""
        self._append(settings)

    def go_on(self) -> None:
        """Cut off an incomplete last line, so that new records can be appended."""
        valid = _lines(self._out, _content(self.path))
        os.ftruncate(self._fd, sum(len(line) for line, _ in valid))

    def record(self, ranges: list[Range]) -> None:
        """Record byte ranges of tensor data that have been synced."""
        self._append(_checked({"done": merge(ranges)}))

    def record_whole(self) -> None:
        """Record that every file is whole and synced."""
        self._append(_checked({"whole": True}))

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
        fd = os.open(journal_path(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
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
    """The content of the journal of the output `path`; an empty `Recorded` if there is none.

    Raises ConvertError if a file of that name is not a journal, or cannot be read.
    """
    journal = journal_path(path)
    entries = [entry for _, entry in _lines(path, _content(journal))]
    if not entries:
        return Recorded()
    done = [(start, end) for entry in entries[1:] for start, end in entry.get("done", ())]
    return Recorded(entries[0], merge(done), entries[1:] != [] and "whole" in entries[-1])


def _content(journal: Path) -> bytes:
    """The bytes of a journal; none if there is no file. Raises ConvertError if it is not one."""
    try:
        # A pipe without a writer at its other end would block.
        fd = os.open(journal, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConvertError(f"{journal}: {error.strerror}; write elsewhere with -o") from None
    with os.fdopen(fd, "rb") as file:
        start = b""
        is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
        if is_regular:
            start = file.read(len(_BEGINNING))
        if not is_regular or not _BEGINNING.startswith(start):
            raise ConvertError(
                f"{journal}: exists and is not a journal of a conversion, so it stays as it is; "
                "move it away, or write elsewhere with -o"
            )
        return start + file.read()


def _lines(path: Path, raw: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the valid lines, raw and parsed, up to the first that is incomplete or malformed.

    Data that no line records is made again, so a lost line costs time and nothing else.

    path: the output.
    """
    n_data = 0
    for index, line in enumerate(raw.splitlines(keepends=True)):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return
        is_sound = _is_record(entry, n_data) if index else _is_settings(entry, path)
        if not line.endswith(b"\n") or not is_sound:
            return
        n_data = n_data if index else entry["n_data"]
        yield line, entry


def _is_settings(entry: Any, path: Path) -> bool:
    """Whether a line is the settings of a conversion into `path`."""
    if not isinstance(entry, dict) or not {"journal", "files", "n_data"} <= entry.keys():
        return False
    names, n_data = entry["files"], entry["n_data"]
    is_list = isinstance(names, list) and all(type(name) is str for name in names)
    return is_list and all(_is_file_of(path, n) for n in names) and type(n_data) is int


def _is_file_of(path: Path, name: str) -> bool:
    """Whether a conversion into `path` may write a file of this name: nothing else is removed."""
    stem = path.name.removesuffix(".gguf")
    is_split = name.startswith(stem) and _SPLIT_FILE.fullmatch(name, len(stem)) is not None
    return name == path.name or is_split


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a checksum: a wrong digit in a range would leave a hole in the output."""
    return {**record, "crc": zlib.crc32(json.dumps(record).encode())}


def _is_record(entry: Any, n_data: int) -> bool:
    if not isinstance(entry, dict):
        return False
    record = {name: value for name, value in entry.items() if name != "crc"}
    if entry != _checked(record):
        return False
    if record == {"whole": True}:
        return True
    done = record.get("done")
    return isinstance(done, list) and all(_is_range(pair, n_data) for pair in done)


def _is_range(pair: Any, n_data: int) -> bool:
    if not isinstance(pair, list) or [type(n) for n in pair] != [int, int]:
        return False
    start, end = pair
    return bool(0 <= start < end <= n_data)


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
        **{f"imatrix {path.name}": _digest(path) for path in sorted(imatrices(plan))},
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


def sources(plan: Plan) -> set[Path]:
    """Every file that weights come from."""
    return {stored.path for stored in stored_tensors(plan)}


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


def imatrices(plan: Plan) -> set[Path]:
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
