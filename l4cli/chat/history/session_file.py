"""Sessions on disk: a file each, added to after every turn, for their owner's eyes only.

A file is open in one chat at a time (flock). What is added is synced before the next prompt shows,
so that kill -9 costs no more than the turn at hand; a last line that was cut short is told of and
cut off before the next is written. The format is that of `records.py`.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from l4cli.chat.history.records import Record, first_question, line
from l4cli.errors import InputError, OutputError, UsageError
from l4cli.paths import state_dir

try:
    import fcntl
except ImportError:  # Windows has no flock; two chats in one session are then the user's care
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".jsonl"
_HEAD = 65536  # bytes of a file in which a list looks for the first question


def sessions_dir() -> Path:
    """Where sessions are kept."""
    return state_dir() / "sessions"


def session_path(name: str) -> Path:
    """The file of the session of that name; UsageError if it cannot be a name."""
    if not re.fullmatch(r"\w[\w.@+-]{0,99}", name):
        raise UsageError(
            f"{name!r} cannot be a session's name: letters, digits and . _ - + @, "
            "the first a letter or digit"
        )
    return sessions_dir() / f"{name}{_SUFFIX}"


def session_names() -> list[str]:
    """Names of the sessions there are, the last used first."""
    return [path.name.removesuffix(_SUFFIX) for path in _newest_first()]


def last_session() -> str:
    """The session used last; UsageError if there is none."""
    names = session_names()
    if not names:
        raise UsageError(f"there is no session to continue yet (they are kept in {sessions_dir()})")
    return names[0]


def require_session(name: str) -> Path:
    """The file of a session there is; UsageError, with near matches, if there is none."""
    path = session_path(name)
    if not path.exists():
        near = difflib.get_close_matches(name, session_names(), n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "/sessions lists them"
        raise UsageError(f"there is no session {name!r}; {hint}")
    return path


def new_session_path() -> Path:
    """For a session without a name: it is named by the time."""
    return session_path(f"{datetime.now():%Y-%m-%d-%H%M%S}")


def timestamp() -> str:
    """This moment as records have it, in UTC."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


class SessionFile:
    """A session's file, locked for as long as it is open. It is made by the first `append`.

    UsageError if another chat has it open, InputError if it cannot be read, OutputError from
    `append` if it cannot be written; what could not be is tried again with the next records.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._end = 0
        self._unwritten = b""
        if path.exists():
            try:
                self._fd = _open_locked(path, os.O_RDWR)
                self._end = os.fstat(self._fd).st_size
            except OSError as error:
                raise InputError(f"{path}: {error.strerror}") from error

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(_SUFFIX)

    @property
    def exists(self) -> bool:
        """Whether there is anything on disk yet."""
        return self._fd >= 0

    def read(self) -> bytes:
        """All that it holds; InputError if it cannot be read."""
        if not self.exists:
            return b""
        try:
            with os.fdopen(os.dup(self._fd), "rb") as file:
                file.seek(0)
                return file.read()
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error

    def keep(self, end: int) -> None:
        """What lies behind the first `end` bytes is given up when the next record is written."""
        self._end = end
        if end and self.read()[:end][-1:] != b"\n":  # whole, but for its line break
            self._unwritten = b"\n"

    def append(self, records: Sequence[Record]) -> None:
        """Add records, and return when they are on the disk."""
        self._unwritten += b"".join(map(line, records))
        if not self._unwritten:
            return
        try:
            if not self.exists:
                self._make()
            os.ftruncate(self._fd, self._end)
            os.lseek(self._fd, self._end, os.SEEK_SET)
            if os.write(self._fd, self._unwritten) != len(self._unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end)
            raise OutputError(
                f"{self.path}: {error.strerror}: this turn is not saved yet; "
                "the next one tries again"
            ) from error
        self._end += len(self._unwritten)
        self._unwritten = b""

    def rename(self, name: str) -> None:
        """Give the session another name; UsageError if there is one of that name."""
        path = session_path(name)
        if path == self.path:
            return
        try:
            if self.exists:
                os.link(self.path, path)  # unlike a rename, it takes no other session's place
                self.path.unlink()
            elif path.exists():
                raise FileExistsError
        except FileExistsError:
            raise UsageError(f"there is a session {name!r} already; choose another name") from None
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error
        self.path = path

    def close(self) -> None:
        """Let go of the lock; idempotent."""
        if self.exists:
            os.close(self._fd)
            self._fd = -1

    def _make(self) -> None:
        directory = self.path.parent
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        stem = self.path.name.removesuffix(_SUFFIX)
        for count in range(2, 1000):
            try:
                self._fd = _open_locked(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                break
            except FileExistsError:  # of a chat that began in the same second
                self.path = directory / f"{stem}-{count}{_SUFFIX}"
        with contextlib.suppress(OSError):  # some file systems cannot sync a directory
            fd = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class Summary:
    """A session as a list shows it; `used` is when it was last written, local time."""

    name: str
    used: datetime
    first_question: str


def summaries() -> list[Summary]:
    """The sessions there are, the last used first."""
    found = []
    for path in _newest_first():
        with contextlib.suppress(OSError):  # gone meanwhile
            used = datetime.fromtimestamp(path.stat().st_mtime)
            with path.open("rb") as file:
                question = first_question(file.read(_HEAD))
            found.append(Summary(path.name.removesuffix(_SUFFIX), used, question))
    return found


def _newest_first() -> list[Path]:
    paths = [path for path in sessions_dir().glob(f"*{_SUFFIX}") if not path.name.startswith(".")]
    return sorted(paths, key=_last_used, reverse=True)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _open_locked(path: Path, flags: int) -> int:
    """OSError if it cannot be opened, UsageError if another chat has it."""
    fd = os.open(path, flags, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(
            f"the session {path.name.removesuffix(_SUFFIX)} is open in another l4 chat: "
            "close it there, or begin another"
        ) from None
    except OSError:  # a file system without locks: two chats in one session are the user's care
        pass
    return fd
