"""--retry-errors: the error rows of an output are asked again, the others copied.

The rows go into OUT.retry, with a journal of its own, in the order OUT has them; when the input is
through, OUT.retry takes OUT's name and then its journal the journal's. Until then OUT is whole as
it was, so kill -9 at any moment costs nothing: the next --retry-errors goes on in OUT.retry, or,
where only the journal was left to be renamed, renames it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from l4cli.batch.journal import (
    Done,
    JournaledOutput,
    changed_input,
    journal_of,
    left_over,
    open_locked,
    read_journal,
)
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.suspects import Suspects
from l4cli.errors import OutputError, UsageError


def open_journaled(
    path: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    retry_errors: bool = False,
    unordered: bool = False,
) -> JournaledOutput | RetriedOutput:
    """The output that a run writes to: new, resumed, or anew with its errors asked again."""
    _finish_renaming(path)
    if retry_errors and journal_of(path).exists():
        return RetriedOutput(path, settings, unordered=unordered)
    if resume and _beside(path).exists():
        raise UsageError(
            f"a retry of the errors in {path} was interrupted: go on with it with --retry-errors, "
            f"or delete {_beside(path)} to give it up"
        )
    return JournaledOutput(path, settings, resume=resume, unordered=unordered)


class RetriedOutput:
    """OUT written anew beside itself, what was answered copied and what failed asked again.

    `num_done` rows need not be asked: they were answered, or an interrupted retry has asked them.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, unordered: bool) -> None:
        self.path = path
        self._unordered = unordered
        with ExitStack() as opened:
            try:
                opened.enter_context(open_locked(journal_of(path)))
                self._old = read_journal(path, settings)
                self._source = opened.enter_context(path.open("rb"))
                beside = _beside(path)
                beside.touch()  # before its journal: see _finish_renaming
                self._new = opened.enter_context(
                    JournaledOutput(beside, settings, resume=True, unordered=unordered)
                )
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error
            self._opened = opened.pop_all()
        self._at = self._num_copied()
        not_copied = self._old.failed[self._at :]
        self.num_done = self._new.num_done + len(not_copied) - sum(not_copied)
        # For each row under way, the index in OUT up to which rows are copied before it.
        self._before: deque[int] = deque()

    def __enter__(self) -> RetriedOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_failed(self) -> int:
        """Rows that an interrupted retry has asked again, in vain: not a second time."""
        return self._new.num_failed

    @property
    def journal(self) -> Path:
        """Where a crash is noted."""
        return self._new.journal

    @property
    def suspects(self) -> Suspects:
        """The rows that this retry may have crashed on before."""
        return self._new.suspects

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """The rows that failed, and those OUT does not have yet.

        InputError if one that was answered has changed since; one that failed may have.
        """
        left = self._left_unordered(rows) if self._unordered else self._left_in_order(rows)
        for index, row in left:
            self._before.append(index)
            yield row

    def write(self, line: str, digest: bytes, *, failed: bool = False) -> None:
        """Append one row, after those of OUT that come before it."""
        self._copy_to(self._before.popleft())
        if not self._unordered:
            self._at += 1
        self._new.write(line, digest, failed=failed)

    def finish(self) -> None:
        """Copy what is left, and give the new file its name."""
        self._copy_to(self._old.num_rows)
        self.close()
        beside = _beside(self.path)
        beside.replace(self.path)
        journal_of(beside).replace(journal_of(self.path))

    def close(self) -> None:
        """Bring everything to the disk; OUT stays as it was unless `finish` was called."""
        self._opened.close()

    def _num_copied(self) -> int:
        """How far into OUT an interrupted retry got."""
        num_written = self._new.num_done
        if not self._unordered:
            return min(num_written, self._old.num_rows)
        index = 0
        while num_written and index < self._old.num_rows:
            num_written -= not self._old.failed[index]
            index += 1
        return index

    def _left_in_order(self, rows: Iterable[Row | BadRow]) -> Iterator[tuple[int, Row | BadRow]]:
        old = self._old
        index = self._new.num_done
        for row in self._new.skip_done(rows):
            if index >= old.num_rows or old.failed[index]:
                yield index, row
            elif row.digest != old.digest(index):
                raise changed_input(self.path, row)
            index += 1
        if index < old.num_rows:
            raise changed_input(self.path, None)

    def _left_unordered(self, rows: Iterable[Row | BadRow]) -> Iterator[tuple[int, Row | BadRow]]:
        kept = Done()
        for index in range(self._old.num_rows):
            if not self._old.failed[index]:
                kept.add(self._old.digest(index), 0, False)
        for row in left_over(rows, [kept, self._new.done], self.path):
            yield self._old.num_rows, row

    def _copy_to(self, stop: int) -> None:
        """Copy the answered rows of OUT up to index `stop`."""
        for index in range(self._at, min(stop, self._old.num_rows)):
            if not self._old.failed[index]:
                self._source.seek(self._old.start(index))
                data = self._source.read(self._old.ends[index] - self._old.start(index))
                self._new.write_bytes(data, self._old.digest(index), failed=False)
        self._at = max(self._at, stop)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".retry")


def _finish_renaming(path: Path) -> None:
    """After a kill between the two renames: the journal that is left belongs to OUT."""
    journal = journal_of(_beside(path))
    if journal.exists() and not _beside(path).exists():
        journal.replace(journal_of(path))
