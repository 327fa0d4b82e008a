"""All stored segments on this machine: found by name, limited in size, pruned by last use.

    $XDG_CACHE_HOME/l4/prefixes/<key>/<segment>.state

`key` is a hash of everything that a state depends on except its tokens. Processes share the
directory without locks: a file appears complete under its name, and may vanish at any time. If one
process has just pruned a file, another one computes its tokens again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from l4cli.amounts import human_size
from l4cli.engine.pieces import last_cut
from l4cli.engine.sequence import common_prefix
from l4cli.paths import cache_dir
from l4cli.store import chain, state_file
from l4cli.store.chain import Segment
from l4cli.store.state_file import BadStateError

_FORMAT = 1  # increased when older states must not be used any more
_SHARE = 5  # by default the store takes at most a fifth of the disk
_SPARE = 1 << 30  # bytes that stay free on the disk
_STALE = 3600.0  # seconds without a write; the writer of a .part file is then gone
_LABEL = "key.json"
_GLANCE = 64  # tokens of a file that are compared first


class NoRoomError(Exception):
    """A segment is too large for the rest of the disk, or for the store's limit."""


class StateDirectory:
    """The stored segments of one model in one kind of context.

    about: everything that the states depend on, except their tokens. It must be the same in every
        process, and different for any other model or kind of context.
    limit: most bytes of all models together; None means a fifth of the disk.
    """

    def __init__(
        self, about: dict[str, str], *, root: Path | None = None, limit: int | None = None
    ) -> None:
        self.root = root or store_root()
        self.limit = limit
        self._label = json.dumps({"format": _FORMAT, **about}, indent=1)
        self.key = hashlib.blake2b(self._label.encode(), digest_size=16).hexdigest()
        self.path = self.root / self.key

    def has(self, segment: Segment) -> bool:
        """Whether a file of that name exists; `check` says whether it is usable."""
        return self.file(segment).exists()

    def file(self, segment: Segment) -> Path:
        """The path of the segment's file, which may not exist."""
        return self.path / segment.name

    def find(
        self, tokens: Sequence[int], *, piece: int | None = None, room: int | None = None
    ) -> list[tuple[Segment, Path]]:
        """The segments of the longest stored prefix of `tokens`, in order, with their files.

        piece: size of the pieces of `Prefixes.prefill`. Only exact segments are then found, and the
            prefix ends between two pieces or, if it was computed up to there, at the end of
            `tokens`.
        room: number of cells for the prefix. A file may hold more tokens than its segment, but is
            loaded as a whole, so files that need more cells are left out.
        """
        found: list[tuple[Segment, Path]] = []
        for whole in chain.whole_segments(tokens, exact=True):
            kinds = [whole] if piece else [whole, replace(whole, exact=False)]
            segment = next((segment for segment in kinds if self.has(segment)), None)
            if segment is None:
                break
            found.append((segment, self.file(segment)))
        before, start = (found[-1][0].digest, found[-1][0].stop) if found else (chain.FIRST, 0)
        if longest := self._longest_tail(before, start, list(tokens[start:]), piece, room):
            found.append(longest)
        return found

    def _longest_tail(
        self, before: str, start: int, wanted: list[int], piece: int | None, room: int | None
    ) -> tuple[Segment, Path] | None:
        """The tail after `before` that holds the longest prefix of `wanted`, and its file."""
        for exact in (True,) if piece else (True, False):
            whole = chain.tail(before, start, wanted, exact=exact)
            if wanted and self.has(whole) and not (room and whole.stop > room):
                return whole, self.file(whole)
        best: tuple[Segment, Path] | None = None
        most = 0
        for path, exact in self._tails(before):
            with contextlib.suppress(OSError, BadStateError):
                stored, count = state_file.tokens_of(path, _GLANCE)
                shared = common_prefix(stored, wanted)
                if shared == _GLANCE:  # few of a thousand files begin with the same tokens
                    stored, count = state_file.tokens_of(path)
                    shared = common_prefix(stored, wanted)
                if (piece and not exact) or (room and start + count > room):
                    continue
                if piece and not shared == count == len(wanted):
                    shared = last_cut(start + shared, piece) - start
                if shared > most:
                    most = shared
                    best = Segment(before, "", start, start + shared, False, exact), path
        return best

    def _tails(self, before: str) -> list[tuple[Path, bool]]:
        names = (path.name for path in self.path.glob(f"{before}-*"))
        return [(self.path / name, exact) for name, exact in chain.tails(names, before)]

    def write(self, segment: Segment, n_bytes: int, save: Callable[[Path], object]) -> int:
        """Store a segment; return the bytes written.

        n_bytes: its approximate size. Older segments are pruned to make room for it.
        save: writes the segment's state to a path.

        Raises NoRoomError, OSError, and the errors of `save`.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_room(n_bytes)
        label = self.path / _LABEL
        if not label.exists():
            label.write_text(self._label)
        return state_file.write(self.file(segment), self.key, segment.start, save)

    def drop_shorter(self, segment: Segment, tokens: Sequence[int]) -> None:
        """Remove the inexact tails whose tokens a new segment holds all of."""
        own = list(tokens[segment.start : segment.stop])
        for path, exact in self._tails(segment.before):
            if exact or path == self.file(segment):
                continue
            with contextlib.suppress(OSError, BadStateError):
                stored, _ = state_file.tokens_of(path)
                if len(stored) < len(own) and own[: len(stored)] == stored:
                    path.unlink()

    def check(self, path: Path, start: int) -> None:
        """Raise BadStateError or OSError unless the file may be loaded; remove a bad file."""
        try:
            state_file.check(path, self.key, start)
        except BadStateError:
            path.unlink(missing_ok=True)
            raise

    def _make_room(self, n_bytes: int) -> None:
        usage = shutil.disk_usage(self.path)
        limit = self.limit if self.limit is not None else usage.total // _SHARE
        if n_bytes > limit:
            raise NoRoomError(
                f"it needs {human_size(n_bytes)}, the reading cache may hold {human_size(limit)}"
            )
        prune(self.root, limit - n_bytes)
        free = shutil.disk_usage(self.path).free - _SPARE
        if n_bytes > free:
            raise NoRoomError(
                f"it needs {human_size(n_bytes)}, the disk has {human_size(max(0, free))} to spare"
            )


def store_root() -> Path:
    """The directory that holds all models' states."""
    return cache_dir() / "prefixes"


def is_known(root: Path, tokens: Sequence[int]) -> bool:
    """Whether the first segment of a prefix is stored for any model and kind of context.

    This is only a hint, based on file names: the key is not known before the context exists.
    """
    first, *_ = chain.segments(tokens, exact=True)
    return any(True for _ in root.glob(f"*/{first.name}"))


def prune(root: Path, limit: int) -> int:
    """Remove the least recently used segments until all take at most `limit` bytes.

    Returns the bytes freed. Whenever a segment is used, its predecessors are marked as used after
    it, so that successors are removed first.
    """
    files = sorted(_states(root), key=lambda entry: entry[1])
    total = sum(size for _, _, size in files)
    freed = 0
    for path, _, size in files:
        if total - freed <= limit:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    return freed


def _states(root: Path) -> Iterator[tuple[Path, float, int]]:
    """The segments' files with last use and size. Removes partial files whose writer is gone."""
    now = time.time()
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            if path.suffix == chain.SUFFIX:
                yield path, stat.st_mtime, stat.st_size
            elif path.suffix == state_file.PARTIAL_SUFFIX and now - stat.st_mtime > _STALE:
                path.unlink()
