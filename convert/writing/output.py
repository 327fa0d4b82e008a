"""Writes one planned GGUF: its part files, and the journal that records which bytes are done.

If a conversion does not finish, the reason decides what happens to the part files and the journal.
After Ctrl-C, a full disk or any other error that is not the checkpoint's fault, they stay and can
be resumed. After an error of the checkpoint they could not be resumed, so they are removed. They
are also removed if they hold no data yet.
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
    Settings,
    check_settings,
    is_busy,
    journal_path,
    read_journal,
    settings_of,
)
from convert.writing.layout import FileLayout, Layout
from convert.writing.ranges import Range
from convert.writing.refusals import is_written, refuse_foreign_parts, refuse_taken
from convert.writing.tiles import Tile
from convert.writing.writer import PartFile, disk_error, part_path


@dataclass(frozen=True)
class Batch:
    """The byte ranges of tensor data written since the last save, which are not synced yet."""

    output: Output
    ranges: list[Range]


class Output:
    """The files of `plan`, laid out as `layout` says, from their creation to their final names.

    Use it in a `with`: write every tile and note it, then `seal`, then `publish`.

    resume: whether to continue the part files of an earlier conversion, if there are any.
    overwrite: whether to replace files that have the final names.

    Entering raises ConvertError if that conversion had another source or other settings, or if a
    part file or the journal is not l4's. Every method raises DiskError.
    """

    def __init__(self, plan: Plan, layout: Layout, *, resume: bool, overwrite: bool) -> None:
        self.plan = plan
        self.layout = layout
        self._resume = resume
        self._overwrite = overwrite
        self._parts = [PartFile(file) for file in layout.files]
        self._recorded = Recorded()
        self._pending: list[Range] = []
        self._has_begun = False
        self._is_trusted = True  # whether a successful sync would prove that all writes are on disk

    def __enter__(self) -> Output:
        settings = settings_of(self.plan, self.layout)
        try:
            self._journal = Journal(self.layout.path)
        except OSError as error:
            raise self._error(error) from None
        try:
            refuse_foreign_parts(self.layout)
        except ConvertError:
            self._journal.close()
            raise
        try:
            before = read_journal(self.layout.path)
            if self._resume and before.settings is not None and before.done:
                check_settings(part_path(self.layout.path), before.settings, settings)
                self._go_on(before)
            else:
                self._start_over(before, settings)
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
        # With no tile made yet, the part files are from before and the error says nothing of them.
        is_resumable |= not self._has_begun
        try:
            if is_resumable:
                self.save(self.take_batch())
        finally:
            self._close(keep=is_resumable and bool(read_journal(self.layout.path).done))

    def lacks(self, tile: Tile) -> bool:
        """Whether the tile still has to be made."""
        return not self._recorded.covers(tile.offset, tile.offset + tile.n_bytes)

    def write(self, tile: Tile, data: memoryview) -> None:
        """Write a tile's bytes. May be called from many threads at once."""
        index, position = self.layout.place(tile.offset)
        self._parts[index].write_at(position, data)

    def note(self, tile: Tile) -> None:
        """Note that a tile has been written; the next save will record it."""
        self._has_begun = True
        self._pending.append((tile.offset, tile.offset + tile.n_bytes))

    def take_batch(self) -> Batch:
        """Return the tiles noted since the last call, and begin a new batch."""
        batch, self._pending = Batch(self, self._pending), []
        return batch

    def save(self, batch: Batch) -> None:
        """Sync the files, then record the batch."""
        if not batch.ranges or not self._is_trusted:
            return
        # After a failed sync the operating system may drop the lost page, and the next sync would
        # succeed without it. So nothing is recorded once a sync has failed.
        self._is_trusted = False
        for part in self._parts:
            part.sync()
        self._is_trusted = True
        try:
            self._journal.record(batch.ranges)
        except OSError as error:
            raise self._error(error) from None

    def seal(self) -> None:
        """Sync the whole output and record that it is complete."""
        self.save(self.take_batch())
        try:
            self._journal.record_whole()
        except OSError as error:
            raise self._error(error) from None

    def publish(self) -> None:
        """Give every file its final name. The output must be sealed."""
        for part, file in zip(self._parts, self.layout.files, strict=True):
            if is_published(file):
                continue
            if not self._overwrite:
                try:
                    refuse_taken(file)
                except ConvertError as error:  # it came while we were writing
                    raise DiskError(f"{error}; the same command with --resume then ends") from None
            part.publish()
        self._journal.remove()

    def _start_over(self, before: Recorded, settings: Settings) -> None:
        for part in _parts(self.layout.path, before):
            part.unlink(missing_ok=True)
        self._journal.clear()
        self._journal.begin(settings)
        for created in self._parts:
            created.create()

    def _go_on(self, before: Recorded) -> None:
        for part, file in zip(self._parts, self.layout.files, strict=True):
            if not (before.is_whole and is_published(file)):
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


def is_published(file: FileLayout) -> bool:
    """Whether the file has its final name, and its part file is gone."""
    return is_written(file) and not part_path(file.path).exists()


def _parts(path: Path, recorded: Recorded) -> list[Path]:
    """The part files that a journal of the output `path` lists."""
    names = recorded.settings["files"] if recorded.settings else ()
    return [part_path(path.with_name(name)) for name in names]


def find_leftover(path: Path) -> Leftover | None:
    """What an unfinished conversion into `path` has left to resume.

    None if there is nothing to resume, or if a conversion into `path` is running.
    """
    if is_busy(path):
        return None
    recorded = read_journal(path)
    if recorded.settings is None or not recorded.done:
        return None
    parts = [part for part in _parts(path, recorded) if part.exists()]
    return Leftover(
        files=(*parts, journal_path(path)),
        n_done=recorded.n_done,
        n_bytes=recorded.settings["n_data"],
    )
