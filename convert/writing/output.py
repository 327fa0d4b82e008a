"""One planned GGUF on its way to disk: its files, and the journal that tells what of them is done.

What becomes of an output that was not finished depends on why. After Ctrl-C, a full disk or
anything else that is not the checkpoint's fault, parts and journal stay, to be resumed; what a
checkpoint at fault has left could not be, and is removed, as is what holds no data yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from convert.errors import ConvertError, DiskError
from convert.types import Leftover, Plan
from convert.writing.journal import (
    Journal,
    Recorded,
    check_settings,
    is_busy,
    journal_path,
    read_journal,
    settings_of,
)
from convert.writing.layout import Layout
from convert.writing.ranges import Range
from convert.writing.tiles import Tile
from convert.writing.writer import PartFile, disk_error, part_path


@dataclass(frozen=True)
class Batch:
    """What is done since the last save: stretches of tensor data, written but not synced."""

    output: Output
    ranges: list[Range]


class Output:
    """The files of `plan` as `layout` has them, from the first byte to their final names.

    With `resume` an earlier conversion's parts are gone on with; ConvertError if it was of another
    source or other settings. Use it in a `with`; `seal` and `publish` end it well.
    """

    def __init__(self, plan: Plan, layout: Layout, *, resume: bool) -> None:
        self.plan = plan
        self.layout = layout
        self._resume = resume
        self._parts = [PartFile(file) for file in layout.files]
        self._recorded = Recorded()
        self._pending: list[Range] = []
        self._has_begun = False
        self._is_trusted = True  # what has been written, to be there after a sync

    def __enter__(self) -> Output:
        settings = settings_of(self.plan, self.layout)
        try:
            self._journal = Journal(self.layout.path)
        except OSError as error:
            raise self._error(error) from None
        try:
            before = read_journal(self.layout.path)
            if self._resume and before.settings is not None and before.done:
                check_settings(part_path(self.layout.path), before.settings, settings)
                self._go_on(before)
            else:
                self._start_over(before)
                self._journal.begin(settings)
        except BaseException as error:
            self._close(keep=bool(self._resume and before.done))
            if isinstance(error, OSError):
                raise self._error(error) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is None:
            self._close(keep=True)
            return
        is_resumable = isinstance(error, DiskError) or not isinstance(error, ConvertError)
        is_resumable |= not self._has_begun  # what is there is from before, the error is not
        try:
            if is_resumable:
                self.save(self.take_batch())
        finally:
            self._close(keep=is_resumable and bool(read_journal(self.layout.path).done))

    def lacks(self, tile: Tile) -> bool:
        """Whether the tile is still to be made."""
        return not self._recorded.covers(tile.offset, tile.offset + tile.n_bytes)

    def write(self, tile: Tile, data: memoryview) -> None:
        """Write a tile's bytes; from many threads at once if need be."""
        index, position = self.layout.place(tile.offset)
        self._parts[index].write_at(position, data)

    def note(self, tile: Tile) -> None:
        """Take down that a tile has been written, for the next save."""
        self._has_begun = True
        self._pending.append((tile.offset, tile.offset + tile.n_bytes))

    def take_batch(self) -> Batch:
        """What was noted since the last time."""
        batch, self._pending = Batch(self, self._pending), []
        return batch

    def save(self, batch: Batch) -> None:
        """Sync the files, and then record the batch."""
        if not batch.ranges or not self._is_trusted:
            return
        # A kernel that failed to write a page forgets about it: the next sync would succeed.
        self._is_trusted = False
        for part in self._parts:
            part.sync()
        self._is_trusted = True
        try:
            self._journal.record(batch.ranges)
        except OSError as error:
            raise self._error(error) from None

    def seal(self) -> None:
        """Bring the whole output to the disk."""
        self.save(self.take_batch())
        try:
            self._journal.record_whole()
        except OSError as error:
            raise self._error(error) from None

    def publish(self) -> None:
        """Give every file, sealed before, its final name."""
        for part in self._parts:
            if not part.is_published():
                part.publish()
        self._journal.remove()

    def _start_over(self, before: Recorded) -> None:
        self._journal.clear()
        for name in (before.settings or {}).get("files", ()):
            part_path(self.layout.path.with_name(Path(name).name)).unlink(missing_ok=True)
        for part in self._parts:
            part.create()

    def _go_on(self, before: Recorded) -> None:
        for part in self._parts:
            if not (before.is_whole and part.is_published()):
                part.reopen()
        self._journal.go_on()
        self._recorded = before

    def _close(self, *, keep: bool) -> None:
        for part in self._parts:
            if not keep:
                part.remove()
            part.close()
        if not keep:
            self._journal.remove()
        self._journal.close()

    def _error(self, error: OSError) -> DiskError:
        return disk_error(self.layout.path, error, self.layout.n_bytes)


def find_leftover(path: Path) -> Leftover | None:
    """What an unfinished conversion into `path` has left; None if nothing, or if it is at work."""
    if is_busy(path):
        return None
    recorded = read_journal(path)
    if recorded.settings is None or not recorded.done:
        return None
    names = recorded.settings["files"]
    parts = [part_path(path.with_name(Path(name).name)) for name in names]
    return Leftover(
        files=(*(part for part in parts if part.exists()), journal_path(path)),
        n_done=recorded.n_done,
        n_bytes=recorded.settings["n_data"],
    )
