"""Makes the output file and the error file of a batch from its answered rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from l4cli.batch.done import Done, left_over
from l4cli.batch.lines import lines_of
from l4cli.batch.outcomes import Failure
from l4cli.batch.outputs import failure, to_line
from l4cli.batch.rows import read_rows
from l4cli.serve.batches.answering import open_rows, opened
from l4cli.serve.batches.files import FileStore
from l4cli.serve.batches.records import Batch

End = Literal["completed", "expired", "cancelled"]
_PURPOSE = "batch_output"
_WHY_NOT = {
    "expired": "the completion window ended before this request was answered",
    "cancelled": "the batch was cancelled before this request was answered",
}


class Results(NamedTuple):
    """How many lines each file has. A file without lines is not made."""

    completed: int
    failed: int


def write_results(
    batch: Batch, end: End, source: Path, rows_path: Path, files: FileStore
) -> Results:
    """Put a batch's results into the store, whole and on disk. Done again, it changes nothing.

    end: how the batch ends. Requests without an answer are in the error file, with that reason.
    source: its input.
    rows_path: where its answered rows are.
    """
    with open_rows(rows_path, batch) as output:
        done = output.done
    answered = _rows(rows_path, done, failed=False)
    wrong = _rows(rows_path, done, failed=True)
    if end != "completed":
        wrong = chain(wrong, _not_answered(source, rows_path, done, end))
    return Results(
        _store(files, batch.output_id, f"{batch.id}_output.jsonl", answered),
        _store(files, batch.error_id, f"{batch.id}_error.jsonl", wrong),
    )


def _rows(path: Path, done: Done, *, failed: bool) -> Iterator[bytes]:
    """Yield the lines of answered rows that have failed, or of all others."""
    with path.open("rb") as file:
        for index in range(done.num_rows):
            if bool(done.failed[index]) == failed:
                file.seek(done.start(index))
                yield file.read(done.ends[index] - done.start(index))


def _not_answered(source: Path, path: Path, done: Done, end: End) -> Iterator[bytes]:
    """Yield an error for each request that has no answer."""
    why_not = Failure(f"batch_{end}", _WHY_NOT[end])
    with opened(source) as file:
        rows = read_rows(lines_of(file), accept=lambda _envelope: None)
        for row in left_over(rows, [done], path):
            yield to_line(failure(row, why_not)).encode() + b"\n"


def _store(files: FileStore, file_id: str, filename: str, lines: Iterable[bytes]) -> int:
    """Make a file of lines; return how many it has."""
    count = 0
    with files.incoming() as incoming:
        for line in lines:
            incoming.write(line)
            count += 1
        if count and not files.find(file_id):
            incoming.keep(file_id, filename, _PURPOSE)
    return count
