"""What `l4 run` shows: progress, the summary at the end, the report of --dry-run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from l4cli import console
from l4cli.amounts import NOT_MEASURED, counted, duration, human_size
from l4cli.batch import dry_run
from l4cli.batch.input import RowsInput
from l4cli.batch.requests import BatchOptions
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.session import RunSession
from l4cli.batch.stats import BatchStats, Progress, cost, summary
from l4cli.engine.kv import num_sequences
from l4cli.engine.sizing import choose_size
from l4cli.errors import EXIT_FAILED, InputError
from l4cli.fit.memory import ContextSpec, kv_bytes
from l4cli.loading.llm import LLM
from l4cli.speeds import recall

_UPDATE_EVERY = 0.1  # seconds between two updates of the progress line
_MOST_LINES = 10  # line numbers to list before "and N more"


@contextmanager
def progress(
    session: RunSession, out: Path | None, count: Callable[[], int | None]
) -> Iterator[None]:
    """Show a progress line on stderr while the run goes on.

    Shows nothing if stderr is no terminal, or if the answers may go to a terminal, too, themselves
    or through a pipe.

    out: the output file; None means stdout.
    count: returns the number of rows, or None if it is not known.
    """
    if not console.has_progress() or (out is None and not console.stdout_is_file()):
        yield
        return
    progress = Progress(session.stats, count(), session.output.num_done)
    next_update = 0.0
    with console.status("reading prompts") as update:

        def show() -> None:
            nonlocal next_update
            seconds = time.perf_counter() - session.started
            if seconds < next_update:
                return
            next_update = seconds + _UPDATE_EVERY
            # First, because a narrow terminal cuts the line's end.
            stopping = "finishing; Ctrl-C again stops it · " if session.interrupts else ""
            update(stopping + progress.line(seconds), *progress.below(seconds))

        session.on_step = show
        yield


def report(
    session: RunSession, reading: RowsInput, out: Path | None, price_per_hour: float | None
) -> None:
    """Write the summary and the warnings of a run; raise typer.Exit if not every row was answered.

    reading: the input.
    out: the output file; None means stdout.
    price_per_hour: of the machine; None shows no cost.
    """
    stats, num_done = session.stats, session.output.num_done
    if stats.num_rows + num_done == 0 and not session.interrupts:
        raise InputError(f"{reading.label} has no rows: nothing to do")
    is_all_done = num_done and not stats.num_rows and not session.interrupts
    if is_all_done:
        console.note(f"nothing left to do: {counted(num_done, 'row')} already in {out}")
    elif out or console.has_progress():
        console.note(summary(stats, session.seconds))
        if stats.num_restored_tokens or stats.num_bytes_kept:
            console.note(_reading_cache(stats))
    if price_per_hour is not None:
        console.note(cost(stats, session.seconds, price_per_hour))
    if num_done and not is_all_done:
        console.note(f"{counted(num_done, 'row')} already in {out}")
    num_shared, line = session.ids.shared()
    if num_shared:
        rows = "row has" if num_shared == 1 else "rows have"
        console.warn(f"{num_shared} {rows} the same id as an earlier row, first in line {line}")
    if session.interrupts:
        console.warn(_stopped(session, reading, out))
        raise typer.Exit(session.interrupts.exit_code)
    num_failed = session.output.num_failed
    if stats.num_errors:
        console.warn(f"{stats.num_errors} of {stats.num_rows} rows are errors")
        console.note(stats.failed.reason())
        if out:
            console.note(
                stats.failed.advice(_same_with("--retry-errors"), _same_with("--overwrite"))
            )
    if num_failed:
        hint = f"; ask them again with: {_same_with('--retry-errors')}" if out else ""
        console.warn(f"{num_failed} of the earlier rows are errors{hint}")
    if not _report_checked(session) or stats.num_errors or num_failed:
        raise typer.Exit(EXIT_FAILED)


def _stopped(session: RunSession, reading: RowsInput, out: Path | None) -> str:
    """What a signal has stopped, and how to go on."""
    num_rows = session.stats.num_rows
    if session.is_whole:
        return "--verify was stopped; every row was asked, and its answer is written"
    if reading.count() == num_rows + session.output.num_done:
        return "stopped when every row was in work; all of them were finished"
    hint = f"; go on with: {_same_with(session.resume_option)}" if out else ""
    return f"stopped after {counted(num_rows, 'row')}; the rest was not run{hint}"


def _same_with(option: str) -> str:
    """This command line with another way to treat the output."""
    ways = ("--resume", "--retry-errors", "--overwrite")
    return console.command_line(option, without=[way for way in ways if way != option])


def _report_checked(session: RunSession) -> bool:
    """Report what --verify found; return whether all answers were the same."""
    different = [checked for checked in session.checked if not checked.is_same]
    for checked in different:
        at = checked.first_difference
        here, there = (repr(text[at : at + 20]) for text in (checked.text, checked.alone))
        console.warn(
            f"--verify: the answer to line {checked.line} differs from character {at} on: "
            f"{here} in the run, {there} alone"
        )
    if session.checked:
        num_same = len(session.checked) - len(different)
        console.note(
            f"verified: {num_same} of {len(session.checked)} answers were the same when asked alone"
        )
    return not different


def _reading_cache(stats: BatchStats) -> str:
    """How much of the rows' documents was restored from the reading cache, and saved to it."""
    kept = human_size(stats.num_bytes_kept)
    return (
        f"documents: {stats.num_restored_tokens:,} tokens restored, {kept} saved "
        "(`l4 docs list` shows them; --no-cache does neither)"
    )


def dry_run_report(
    llm: LLM,
    rows: Iterable[Row | BadRow],
    options: BatchOptions,
    *,
    json: bool,
) -> None:
    """Write what the rows need; raise typer.Exit(1) if some can never be answered.

    llm: may be without weights.
    json: write JSON instead of text.
    """
    report = dry_run.measure(llm, rows, options)
    size = choose_size(report.demand, llm.limits)
    conditions = llm.conditions
    n_ubatch = llm.engine.backend.n_ubatch
    n_seq_max = num_sequences(size.n_seq_max, unified=size.unified, with_states=options.use_store)
    spec = ContextSpec(size.n_ctx, n_seq_max, n_ubatch, conditions.kv_type, size.unified)
    n_bytes = kv_bytes(getattr(llm.vocabulary, "metadata", lambda _key: None), spec)
    speeds = recall(conditions).speeds(size.n_seq_max)
    value = {
        **report.as_json(),
        "n_seq_max": size.n_seq_max,
        "kv_cache_bytes": n_bytes,
        "seconds_at_most": round(report.seconds(speeds), 1) if speeds else None,
    }
    if json:
        console.data_json(value)
    else:
        for line in _lines(value, conditions.kv_type):
            console.data(line)
    if report.bad_lines or report.too_long_lines:
        raise typer.Exit(EXIT_FAILED)


def _lines(value: dict[str, Any], kv_type: str) -> Iterator[str]:
    """The lines of the report for people."""
    tokens = value["prompt_tokens"]
    yield f"rows            {value['rows']:,}, with {value['prompts']:,} prompts"
    yield (
        f"prompt tokens   min {tokens['min']:,}, median {tokens['median']:,.10g}, "
        f"max {tokens['max']:,}, total {tokens['total']:,}"
    )
    shared = tokens["shared_with_the_one_before"]
    yield f"shared          {shared:,} tokens with the previous prompt"
    yield f"answers         at most {value['answer_tokens_at_most']:,} tokens"
    yield (
        f"longest row     {value['longest_prompt_and_answer']:,} tokens with its answer; "
        f"the context holds {value['n_ctx']:,}"
    )
    if value["kv_cache_bytes"] is not None:
        yield (
            f"KV cache        {human_size(value['kv_cache_bytes'])} ({kv_type}), "
            f"for at most {value['n_seq_max']} rows at once"
        )
    if value["seconds_at_most"] is not None:
        time_needed = duration(value["seconds_at_most"])
        yield f"time            at most {time_needed} at the speed measured here"
    else:
        yield f"time            {NOT_MEASURED}"
    for name, what in (("bad_lines", "bad rows"), ("too_long_lines", "cannot fit")):
        if value[name]:
            yield f"{what:<16}{_named(value[name])}"


def _named(lines: list[int]) -> str:
    more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    named = ", ".join(map(str, lines[:_MOST_LINES]))
    return f"{len(lines)}: line{'s' if len(lines) > 1 else ''} {named}{more}"
