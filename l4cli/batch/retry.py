"""--retry-errors: runs the error rows of an output again and copies the others.

The rows are written to OUT.retry, which has its own journal, in the same order as in OUT. At the
end of the input, the journal of OUT.retry records that it is whole. Then OUT.retry is renamed to
OUT, and its journal to OUT's journal. Until then OUT is unchanged, so kill -9 at any moment loses
nothing. The next --retry-errors continues in OUT.retry; if the kill came between the two renames,
the journal is renamed first. A retry may have other limits (`LIMITS`) than OUT was started with.
To give a retry up, OUT.retry is deleted: a journal that is left without it, and does not say that
it was whole, is of no use any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from l4cli.batch.done import (
    LIMITS,
    Done,
    IsOwn,
    any_line,
    changed_input,
    check_document,
    left_over,
    read_done,
)
from l4cli.batch.entries import RowEntry
from l4cli.batch.files import journal_of, retry_of, written_by
from l4cli.batch.journal import JournaledOutput, open_journal, refuse_overwriting
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.suspects import Suspects
from l4cli.errors import InputError, OutputError, UsageError
from l4cli.outputs import refuse_unfit


def open_journaled(
    path: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    retry_errors: bool = False,
    overwrite: bool = False,
    unordered: bool = False,
    is_own: IsOwn = any_line,
) -> JournaledOutput | RetriedOutput:
    """Open the output of a run.

    path: the output file.
    settings: the settings that all rows of one file must share.
    resume: continue an existing file.
    retry_errors: run the error rows of an existing file again.
    overwrite: replace an existing file.
    unordered: rows are in the order they finished.
    is_own: see JournaledOutput.

    Raises UsageError if the file exists and may not be continued with these options.
    """
    refuse_unfit(*written_by(path))
    if resume or retry_errors:
        _finish_renaming(path, settings)
    if retry_errors and journal_of(path).exists():
        return RetriedOutput(path, settings, unordered=unordered, is_own=is_own)
    if (resume or overwrite) and _is_being_retried(path):
        raise UsageError(
            f"a retry of the errors in {path} was interrupted: continue it with --retry-errors, "
            f"or delete {retry_of(path)} to give it up"
        )
    return JournaledOutput(
        path, settings, resume=resume, overwrite=overwrite, unordered=unordered, is_own=is_own
    )


def refuse_output(path: Path, *, resume: bool, retry_errors: bool, overwrite: bool) -> None:
    """Raise L4Error if a run with these options cannot write `path`, as far as its files show.

    They are looked at before the model is loaded, which may take long.
    """
    refuse_unfit(*written_by(path))
    if journal := open_journal(path):
        journal.close()
    if not (resume or retry_errors or overwrite):
        refuse_overwriting(path)


class RetriedOutput:
    """Writes OUT.retry: the answered rows of OUT copied, and new answers for its error rows.

    The attribute `num_done` is the number of rows that need no answer in this run: OUT has an
    answer, or an interrupted retry has already run them.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, unordered: bool, is_own: IsOwn = any_line
    ) -> None:
        self.path = path
        self._unordered = unordered
        with ExitStack() as opened:
            try:
                journal = open_journal(path)
                if journal is None:
                    raise UsageError(f"{path} has no journal: give another -o")
                opened.enter_context(journal)
                name = str(journal_of(path))
                self._old = read_done(path, journal, name, settings, is_own, LIMITS)
                self._source = opened.enter_context(path.open("rb"))
                _give_up_if_deleted(path)
                self._new = opened.enter_context(
                    JournaledOutput(
                        retry_of(path),
                        settings,
                        resume=True,
                        unordered=unordered,
                        is_own=is_own,
                        may_differ=LIMITS,
                    )
                )
            except OSError as error:
                raise OutputError(f"cannot write {path}: {error.strerror}") from error
            self._opened = opened.pop_all()
        self._at = self._num_copied()
        not_copied = self._old.failed[self._at :]
        self.num_done = self._new.num_done + len(not_copied) - sum(not_copied)
        # For each row in flight: the rows of OUT below this index are copied before it is written.
        self._before: deque[int] = deque()

    def __enter__(self) -> RetriedOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def num_unnoted(self) -> int:
        """The number of whole rows at the end of OUT or OUT.retry that are asked again."""
        return self._old.num_unnoted + self._new.num_unnoted

    @property
    def num_failed(self) -> int:
        """Rows that failed again in an interrupted retry; this retry does not run them again."""
        return self._new.num_failed

    @property
    def changed(self) -> list[str]:
        """How limits differ from those that OUT was started with, in words."""
        return self._old.changed

    @property
    def journal(self) -> Path:
        """The file in which a crash is recorded."""
        return self._new.journal

    @property
    def suspects(self) -> Suspects:
        """The rows that may have caused crashes of this retry."""
        return self._new.suspects

    def skip_done(self, rows: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
        """Yield the rows that failed, and those that OUT does not have yet.

        Raises InputError if a row that was answered has changed since; a row that failed may have.
        """
        left = self._left_unordered(rows) if self._unordered else self._left_in_order(rows)
        for index, row in left:
            self._before.append(index)
            yield row

    def write(
        self, line: str, digest: bytes, *, failed: bool = False, document: bytes | None = None
    ) -> None:
        """Copy the rows of OUT that come before the next row, then append that row."""
        self._copy_to(self._before.popleft())
        if not self._unordered:
            self._at += 1
        self._new.write(line, digest, failed=failed, document=document)

    def finish(self) -> None:
        """Copy the remaining rows, and rename OUT.retry to OUT."""
        self._copy_to(self._old.num_rows)
        self._new.seal()
        self.close()
        retry_path = retry_of(self.path)
        retry_path.replace(self.path)
        journal_of(retry_path).replace(journal_of(self.path))

    def close(self) -> None:
        """Flush all files to disk and close them. OUT is unchanged unless `finish` was called."""
        self._opened.close()

    def _num_copied(self) -> int:
        """Return the index in OUT up to which an interrupted retry has copied or replaced rows."""
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
            else:
                check_document(old, row, self.path)
            index += 1
        if index < old.num_rows:
            raise changed_input(self.path, None)

    def _left_unordered(self, rows: Iterable[Row | BadRow]) -> Iterator[tuple[int, Row | BadRow]]:
        kept = Done()
        for index in range(self._old.num_rows):
            if not self._old.failed[index]:
                digest = self._old.digest(index)
                kept.add(RowEntry(digest, 0, document=self._old.documents.get(digest)))
        for row in left_over(rows, [kept, self._new.done], self.path):
            yield self._old.num_rows, row

    def _copy_to(self, stop: int) -> None:
        """Copy the answered rows of OUT that are not copied yet, up to index `stop`."""
        for index in range(self._at, min(stop, self._old.num_rows)):
            if not self._old.failed[index]:
                self._source.seek(self._old.start(index))
                data = self._source.read(self._old.ends[index] - self._old.start(index))
                digest = self._old.digest(index)
                document = self._old.documents.get(digest)
                self._new.write_bytes(data, digest, failed=False, document=document)
        self._at = max(self._at, stop)


def _is_being_retried(path: Path) -> bool:
    """Whether OUT.retry is l4's: it has a journal beside it."""
    if not retry_of(path).exists():
        return False
    try:
        journal = open_journal(retry_of(path))
    except UsageError:  # somebody else's, or in use
        return False
    if journal:
        journal.close()
    return journal is not None


def _finish_renaming(path: Path, settings: Mapping[str, Any]) -> None:
    """Rename the journal of OUT.retry to OUT's, if a kill came between the renames of `finish`.

    Then OUT.retry is gone, its journal says that it was whole, and OUT is that file.
    """
    retry_path = retry_of(path)
    if retry_path.exists() or not path.exists():
        return
    try:
        journal = open_journal(retry_path)
        if journal is None:
            return
        with journal:
            done = read_done(
                path, journal, str(journal_of(retry_path)), settings, may_differ=LIMITS
            )
    except (InputError, UsageError, OSError):  # it is not about OUT as it is now
        return
    if done.is_whole and done.end == path.stat().st_size:
        journal_of(retry_path).replace(journal_of(path))


def _give_up_if_deleted(path: Path) -> None:
    """Remove the journal that is left of a retry whose OUT.retry was deleted to give it up."""
    retry_path = retry_of(path)
    if retry_path.exists():
        return
    journal = open_journal(retry_path)
    if journal is not None:
        with journal:
            journal_of(retry_path).unlink()
