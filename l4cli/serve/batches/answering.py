"""Answers the rows of a batch, each into its journal before the next is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from l4cli.batch.files import journal_of
from l4cli.batch.journal import JournaledOutput
from l4cli.batch.lines import lines_of
from l4cli.batch.outputs import has_failed, is_own_line, to_line
from l4cli.batch.requests import BatchOptions
from l4cli.batch.rows import read_rows
from l4cli.batch.runner import run_rows
from l4cli.batch.stats import BatchStats
from l4cli.errors import InputError
from l4cli.native import watcher
from l4cli.serve.batches.checking import Accept
from l4cli.serve.batches.records import Batch
from l4cli.serve.batches.sharing import SharedEngine
from l4cli.serve.served import Models, Served


def open_rows(path: Path, batch: Batch) -> JournaledOutput:
    """Open the answered rows of a batch, to go on with them."""
    for private in (path, journal_of(path)):
        os.close(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    settings = {"batch": batch.id}
    return JournaledOutput(path, settings, resume=True, unordered=True, is_own=is_own_line)


def answer(
    batch: Batch,
    source: Path,
    rows_path: Path,
    served: Served,
    models: Models,
    *,
    lenient: bool,
    stopping: Callable[[], int],
    on_count: Callable[[int, int], None],
) -> bool:
    """Answer the rows of a batch that have no answer yet. Whether all have one now.

    source: its input.
    rows_path: where its answered rows are.
    served: its model.
    stopping: as for `run_rows`.
    on_count: called with the number of rows answered, and of those that failed.
    """
    options = BatchOptions(
        unordered=True,
        look_ahead=1,
        default_max_tokens=served.default_max_tokens,
        strict=not lenient,
    )
    accept = Accept(batch.endpoint, models, served)
    with opened(source) as file, open_rows(rows_path, batch) as output:
        completed, failed = output.num_done - output.num_failed, output.num_failed
        on_count(completed, failed)
        watcher.tell(
            f"the answers of {batch.id} so far are safe; start l4 serve again to go on with it",
            journal=output.journal,
        )
        try:
            with SharedEngine(served.engine, batch.id) as computing:
                answered = run_rows(
                    served.llm,
                    output.skip_done(read_rows(lines_of(file), lenient=lenient, accept=accept)),
                    options,
                    BatchStats(),
                    stopping=stopping,
                    suspects=replace(output.suspects, again="send it again in another batch"),
                    computing=computing,
                )
                with closing(answered):
                    for row, written in answered:
                        is_error = has_failed(written)
                        output.write(to_line(written), row.digest, failed=is_error)
                        completed, failed = completed + (not is_error), failed + is_error
                        on_count(completed, failed)
        finally:
            watcher.tell()
    return not stopping()


def opened(source: Path) -> BinaryIO:
    """Open the input of a batch. InputError if that is not possible."""
    try:
        return source.open("rb")
    except OSError as error:
        raise InputError(f"the input file cannot be read: {error.strerror}") from error
