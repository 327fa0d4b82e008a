"""All stored segments on this machine: found by name, bounded in size, pruned by last use.

    $XDG_CACHE_HOME/l4/prefixes/<key>/<segment>.state

`key` stands for everything beside the tokens that a state depends on. Processes share the
directory without locks: files appear whole under their names and vanish, no more; who looks for
one that another has just pruned computes it again.
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

from l4cli.engine.pieces import last_cut
from l4cli.engine.sequence import common_prefix
from l4cli.paths import cache_dir
from l4cli.store import chain, state_file
from l4cli.store.chain import Segment
from l4cli.store.state_file import BadStateError

_FORMAT = 1  # counts up when states of before must not be used any more
_SHARE = 5  # by default the store takes at most this part of the disk: a fifth
_SPARE = 1 << 30  # bytes that stay free on the disk
_STALE = 3600.0  # seconds after which a .part has lost its writer
_LABEL = "key.json"
_GLANCE = 64  # tokens


class NoRoomError(Exception):
    """A segment that is too large for what is left of the disk, or for the store's limit."""


class StateDirectory:
    """The stored segments of one model in one kind of context.

    `about` says what they depend on: the same in every process, different for any other. `limit`
    bounds the bytes of all models together; a fifth of the disk unless given.
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
        """Whether there is a file of that name; `check` says whether it is any good."""
        return self.file(segment).exists()

    def file(self, segment: Segment) -> Path:
        """Where the segment lies, or would."""
        return self.path / segment.name

    def find(
        self, tokens: Sequence[int], *, piece: int | None = None, room: int | None = None
    ) -> list[tuple[Segment, Path]]:
        """The segments of the longest stored prefix of `tokens`, in order, with their files.

        With `piece`, the size of pieces, only exact ones: the prefix then ends between two pieces
        or, where it was read to that end, at the end of `tokens`. A file may hold more than its
        segment, but is loaded as a whole: with `room`, only what so many cells can hold.
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
        """Of the files that follow `before`, the one that serves most of what is wanted."""
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
                if shared == _GLANCE:  # of thousands of files few begin so
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
        """Store a segment of about `n_bytes` that `save` writes to a path; the bytes written.

        Older segments make room for it. Raises NoRoomError, OSError, and what `save` raises.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_room(n_bytes)
        label = self.path / _LABEL
        if not label.exists():
            label.write_text(self._label)
        return state_file.write(self.file(segment), self.key, segment.start, save)

    def drop_shorter(self, segment: Segment, tokens: Sequence[int]) -> None:
        """Remove tails that a new one, not exact, holds all of."""
        own = list(tokens[segment.start : segment.stop])
        for path, exact in self._tails(segment.before):
            if exact or path == self.file(segment):
                continue
            with contextlib.suppress(OSError, BadStateError):
                stored, _ = state_file.tokens_of(path)
                if len(stored) < len(own) and own[: len(stored)] == stored:
                    path.unlink()

    def check(self, path: Path, start: int) -> None:
        """BadStateError or OSError unless the file may be loaded; removed where it is no good."""
        try:
            state_file.check(path, self.key, start)
        except BadStateError:
            path.unlink(missing_ok=True)
            raise

    def _make_room(self, n_bytes: int) -> None:
        usage = shutil.disk_usage(self.path)
        limit = self.limit if self.limit is not None else usage.total // _SHARE
        if n_bytes > limit:
            raise NoRoomError(f"it takes {_size(n_bytes)}, the store may hold {_size(limit)}")
        prune(self.root, limit - n_bytes)
        free = shutil.disk_usage(self.path).free - _SPARE
        if n_bytes > free:
            raise NoRoomError(
                f"it takes {_size(n_bytes)}, the disk has {_size(max(0, free))} to spare"
            )


def store_root() -> Path:
    """Where all models' states lie."""
    return cache_dir() / "prefixes"


def is_known(root: Path, tokens: Sequence[int]) -> bool:
    """Whether the first segment of a prefix is stored for any model and kind of context: a hint.

    Told from names alone, before there is a context to tell what its states depend on.
    """
    first, *_ = chain.segments(tokens, exact=True)
    return any(True for _ in root.glob(f"*/{first.name}"))


def prune(root: Path, limit: int) -> int:
    """Remove the least recently used segments until all take at most `limit` bytes; bytes freed.

    A segment's predecessors are used whenever it is, after it: so successors go first.
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
    """Files with the time of their last use and their size; partial files without a writer go."""
    now = time.time()
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            if path.suffix == chain.SUFFIX:
                yield path, stat.st_mtime, stat.st_size
            elif path.suffix == state_file.PARTIAL_SUFFIX and now - stat.st_mtime > _STALE:
                path.unlink()


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
