"""Sessions on disk: one file per session, appended to after every turn, readable by its owner only.

Only one chat at a time can have a file open (flock). A question is synced to the disk before its
answer begins, and the answer before the next prompt appears, so kill -9 loses at most an answer. A
last line that was cut short is reported, and cut off before the next record is written.
`records.py` describes the format.
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

from convert.names import is_file_name
from l4cli.chat.history.records import Record, first_question, line
from l4cli.errors import InputError, OutputError, UsageError
from l4cli.paths import state_dir

try:
    import fcntl
except ImportError:  # Windows has no flock: the user must not open a session in two chats
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".jsonl"
_HEAD = 65536  # bytes: `summaries` looks for the first question only in this much of a file


def sessions_dir() -> Path:
    """Return the folder of the session files."""
    return state_dir() / "sessions"


def session_path(name: str) -> Path:
    """Return the path of the session `name`; UsageError if a session cannot have this name."""
    if not re.fullmatch(r"\w[\w.@+-]{0,99}", name) or not is_file_name(f"{name}{_SUFFIX}"):
        raise UsageError(
            f"{name!r} cannot be a session's name: use letters, digits and . _ - + @, "
            "and begin with a letter or a digit"
        )
    return sessions_dir() / f"{name}{_SUFFIX}"


def session_names() -> list[str]:
    """Return the names of all sessions, the last used first."""
    return [path.name.removesuffix(_SUFFIX) for path in _newest_first()]


def last_session() -> str:
    """Return the name of the session used last; UsageError if there is none."""
    names = session_names()
    if not names:
        raise UsageError(
            f"there is no session to continue yet (sessions are kept in {sessions_dir()})"
        )
    return names[0]


def require_session(name: str, listing: str = "`l4 sessions`") -> Path:
    """Return the path of an existing session; UsageError, with near matches, if none.

    listing: what lists the sessions, for the message.
    """
    path = session_path(name)
    if not path.exists():
        near = difflib.get_close_matches(name, session_names(), n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"{listing} lists them"
        raise UsageError(f"there is no session {name!r}; {hint}")
    return path


def new_session_path() -> Path:
    """Return the path for a session that the user did not name: its name is the time."""
    return session_path(f"{datetime.now():%Y-%m-%d-%H%M%S}")


def timestamp() -> str:
    """Return the current time in the form that records use, in UTC."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


class SessionFile:
    """A session file, locked while it is open. The first `append` creates it.

    is_named: whether the user chose the name. If another chat creates a session of that name first,
        `append` then raises UsageError; otherwise a number is added to the name.

    Opening raises UsageError if another chat has the file open, and InputError if it cannot be
    read. `append` raises OutputError if the file cannot be written; it keeps the records and writes
    them with the next ones.
    """

    def __init__(self, path: Path, *, is_named: bool = False) -> None:
        self.path = path
        self._is_named = is_named
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
        """Whether the file is on disk and open."""
        return self._fd >= 0

    def read(self) -> bytes:
        """Return the whole content; InputError if it cannot be read."""
        if not self.exists:
            return b""
        try:
            with os.fdopen(os.dup(self._fd), "rb") as file:
                file.seek(0)
                return file.read()
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}") from error

    def keep(self, end: int) -> None:
        """Keep only the first `end` bytes; the next `append` cuts off the rest."""
        self._end = end
        if end and self.read()[:end][-1:] != b"\n":  # the last line lacks only its line break
            self._unwritten = b"\n"

    def append(self, records: Sequence[Record]) -> None:
        """Append records, and return once they are on the disk."""
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
        """Rename the session; UsageError if a session of that name exists."""
        path = session_path(name)
        if path == self.path:
            return
        try:
            if self.exists:
                os.link(self.path, path)  # unlike a rename, a link never overwrites another session
                self.path.unlink()
            elif path.exists():
                raise FileExistsError
        except FileExistsError:
            raise UsageError(f"a session {name!r} exists already; choose another name") from None
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error
        self.path = path

    def discard(self) -> None:
        """Remove the file, which has nothing worth keeping; the next `append` creates it again."""
        if self.exists:
            self.path.unlink(missing_ok=True)
        self.close()
        self._end, self._unwritten = 0, b""

    def close(self) -> None:
        """Close the file and release its lock; idempotent."""
        if self.exists:
            os.close(self._fd)
            self._fd = -1

    def _make(self) -> None:
        """Create the file under its own name, or with a number added if that is taken."""
        directory = self.path.parent
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        stem = self.path.name.removesuffix(_SUFFIX)
        for count in range(2, 1000):
            try:
                self._fd = _open_locked(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                break
            except FileExistsError:  # another chat has begun meanwhile
                if self._is_named:
                    raise UsageError(
                        f"another l4 chat has begun the session {self.name} meanwhile: give this "
                        "one another name (in the chat: /save NAME), and ask again"
                    ) from None
                self.path = directory / f"{stem}-{count}{_SUFFIX}"
        with contextlib.suppress(OSError):  # some file systems cannot sync a directory
            fd = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class Summary:
    """A session as /sessions lists it; `used` is the local time when it was last written."""

    name: str
    used: datetime
    first_question: str


def summaries() -> list[Summary]:
    """Return summaries of all sessions, the last used first."""
    found = []
    for path in _newest_first():
        with contextlib.suppress(OSError):  # deleted meanwhile
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
    """Open and lock a file; OSError if it cannot be opened, UsageError if it is in use."""
    fd = os.open(path, flags, 0o600)
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(
            f"the session {path.name.removesuffix(_SUFFIX)} is open in another l4 chat: "
            "close it there, or use another session"
        ) from None
    except OSError:  # no locks on this file system: the user must not open it in two chats
        pass
    return fd
