"""One run of `l4 run`: rows from the input to the output, and what the person sees of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from l4cli import console
from l4cli.amounts import duration
from l4cli.batch import dry_run
from l4cli.batch.files import Output, StdoutOutput
from l4cli.batch.ids import IdRegister
from l4cli.batch.outputs import has_failed, to_line
from l4cli.batch.reading import Reading
from l4cli.batch.requests import BatchOptions
from l4cli.batch.retry import open_journaled
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.runner import run_rows
from l4cli.batch.stats import BatchStats, Progress, cost, summary
from l4cli.batch.verify import Checked, Sample
from l4cli.engine.kv import num_sequences
from l4cli.engine.sizing import choose_size
from l4cli.errors import EXIT_FAILED, InputError
from l4cli.fit.memory import ContextSpec, kv_bytes
from l4cli.loading.llm import LLM
from l4cli.native import watcher
from l4cli.signals import Interrupts
from l4cli.speeds import Fact, OtherWork, RunSpeeds, is_busy, recall, remember

_UPDATE_EVERY = 0.1  # seconds between two renewals of the progress line
_MOST_LINES = 10  # line numbers to name before it is "and others"


class RunSession:
    """Rows through a loaded model; `num_verified` answers are asked again at the end."""

    def __init__(
        self,
        llm: LLM,
        options: BatchOptions,
        output: Output,
        interrupts: Interrupts,
        *,
        num_verified: int = 0,
    ) -> None:
        self.llm, self.options, self.output, self.interrupts = llm, options, output, interrupts
        self.conditions = llm.conditions
        self.stats = BatchStats()
        self.ids = IdRegister()
        self.sample = Sample(num_verified)
        self.checked: list[Checked] = []
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._show: Callable[[], None] = lambda: None
        # A wrong setting is told once, not in every row.
        llm.check(llm.params(**options.sampling))

    def answer(self, rows: Iterable[Row | BadRow]) -> None:
        """Write an output row for every row that has none yet."""
        self._started, others = time.perf_counter(), OtherWork()
        answered = run_rows(
            self.llm,
            self.output.skip_done(self.ids.watch(rows)),
            self.options,
            self.stats,
            stopping=lambda: self.interrupts.count,
            on_step=self._show,
            on_answer=self.sample.offer,
            on_reading=lambda reading: self._note_rates(reading.rates, others),
            suspects=self.output.suspects,
        )
        for row, output in answered:
            self.output.write(to_line(output), row.digest, failed=has_failed(output))
        self._seconds = time.perf_counter() - self._started
        if speeds := self.stats.meter.speeds(self.stats.num_prefill_tokens):
            n_seq_max = self.llm.engine.backend.n_seq_max
            run = RunSpeeds(n_seq_max, speeds.prefill_tps, speeds.decode_tps)
            self._note_rates([run], others)
        if not self.interrupts:
            self.output.finish()

    def _note_rates(self, rates: Iterable[Fact], others: OtherWork) -> None:
        remember(self.conditions, *rates, busy=is_busy(others.load()))

    def verify(self) -> None:
        """Ask the sample again, alone."""
        if not self.interrupts:
            self.checked = list(self.sample.check(self.llm))

    @contextmanager
    def progress(self, out: Path | None, count: Callable[[], int | None]) -> Iterator[None]:
        """Within, a line on a terminal's stderr tells how far the run is.

        Not where the answers themselves appear there. `count` gives the number of rows, if it can.
        """
        if not console.stderr_is_terminal() or (out is None and console.stdout_is_terminal()):
            yield
            return
        progress = Progress(self.stats, count(), self.output.num_done)
        next_update = 0.0
        with console.status("reading prompts") as update:

            def show() -> None:
                nonlocal next_update
                seconds = time.perf_counter() - self._started
                if seconds < next_update:
                    return
                next_update = seconds + _UPDATE_EVERY
                stopping = " · finishing; Ctrl-C again stops at once" if self.interrupts else ""
                update(progress.line(seconds) + stopping)

            self._show = show
            yield

    def report(self, label: str, out: Path | None, price_per_hour: float | None) -> None:
        """What was done, what went otherwise than planned, and the exit code of it."""
        stats, num_done = self.stats, self.output.num_done
        if stats.num_rows + num_done == 0 and not self.interrupts:
            raise InputError(f"{label} has no rows: nothing to do")
        if out or console.stderr_is_terminal():
            console.note(summary(stats, self._seconds))
            if stats.num_restored_tokens or stats.num_bytes_kept:
                console.note(_prefix_store(stats))
        if price_per_hour is not None:
            console.note(cost(stats, self._seconds, price_per_hour))
        if num_done:
            console.note(f"{num_done} rows were in {out} already")
        num_shared, line = self.ids.shared()
        if num_shared:
            rows = "row has" if num_shared == 1 else "rows have"
            console.warn(f"{num_shared} {rows} the id of an earlier one, first in line {line}")
        if self.interrupts:
            hint = f"; go on with: {self._resume_option} -o {out}" if out else ""
            console.warn(f"stopped after {stats.num_rows} rows; the rest was not run{hint}")
            raise typer.Exit(self.interrupts.exit_code)
        num_failed = self.output.num_failed
        hint = f"; ask them again with: --retry-errors -o {out}" if out else ""
        if stats.num_errors:
            console.warn(f"{stats.num_errors} of {stats.num_rows} rows are errors{hint}")
        if num_failed:
            console.warn(f"{num_failed} of the rows from before are errors{hint}")
        if not self._report_checked() or stats.num_errors or num_failed:
            raise typer.Exit(EXIT_FAILED)

    @property
    def _resume_option(self) -> str:
        from l4cli.batch.retry import RetriedOutput

        return "--retry-errors" if isinstance(self.output, RetriedOutput) else "--resume"

    def _report_checked(self) -> bool:
        """What --verify found; whether all was well."""
        different = [checked for checked in self.checked if not checked.is_same]
        for checked in different:
            at = checked.first_difference
            here, there = (repr(text[at : at + 20]) for text in (checked.text, checked.alone))
            console.warn(
                f"--verify: line {checked.line} differs from character {at} on: "
                f"{here} in the run, {there} alone"
            )
        if self.checked:
            num_same = len(self.checked) - len(different)
            console.note(f"verified: {num_same} of {len(self.checked)} answers are the same alone")
        return not different


def _prefix_store(stats: BatchStats) -> str:
    """What of the rows' documents was in the prefix store, and what is now."""
    kept = console.human_size(stats.num_bytes_kept)
    return (
        f"documents: {stats.num_restored_tokens:,} tokens restored, {kept} kept "
        "(`l4 docs list`; --no-cache does neither)"
    )


@contextmanager
def open_output(
    out: Path | None,
    llm: LLM,
    options: BatchOptions,
    reading: Reading,
    resume: bool,
    retry_errors: bool,
) -> Iterator[Output]:
    """Where the answers of a run go: stdout, or a file with its journal."""
    if out is None:
        watcher.tell("the answers so far are on stdout; with -o FILE a run can go on where it was")
        yield StdoutOutput()
        return
    with open_journaled(
        out,
        _settings(llm, options, reading),
        resume=resume,
        retry_errors=retry_errors,
        unordered=options.unordered,
    ) as output:
        again = "--retry-errors" if retry_errors else "--resume"
        watcher.tell(
            f"every row that was written to {out} is whole",
            f"go on with: {console.command_line(again)}",
            journal=output.journal,
        )
        yield output


def dry_run_report(
    llm: LLM,
    rows: Iterable[Row | BadRow],
    options: BatchOptions,
    *,
    json: bool,
) -> None:
    """Print what the rows will ask of the model; exit code 1 if some can never be answered."""
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
    """The report for people."""
    tokens = value["prompt_tokens"]
    yield f"rows            {value['rows']}, with {value['prompts']} prompts"
    yield (
        f"prompt tokens   min {tokens['min']}, median {tokens['median']:g}, max {tokens['max']}, "
        f"total {tokens['total']}"
    )
    yield f"shared          {tokens['shared_with_the_one_before']} tokens with the prompt before"
    yield f"answers         at most {value['answer_tokens_at_most']} tokens"
    yield (
        f"longest row     {value['longest_prompt_and_answer']} tokens with its answer, "
        f"the context holds {value['n_ctx']}"
    )
    if value["kv_cache_bytes"] is not None:
        yield (
            f"KV cache        {console.human_size(value['kv_cache_bytes'])} ({kv_type}), "
            f"for {value['n_seq_max']} at once at most"
        )
    if value["seconds_at_most"] is not None:
        time_needed = duration(value["seconds_at_most"])
        yield f"time            at most {time_needed} at the speed measured here"
    else:
        yield "time            unknown: this model has not run here yet; `l4 bench` measures it"
    for name, what in (("bad_lines", "bad rows"), ("too_long_lines", "cannot fit")):
        if value[name]:
            yield f"{what:<16}{_named(value[name])}"


def _named(lines: list[int]) -> str:
    more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
    named = ", ".join(map(str, lines[:_MOST_LINES]))
    return f"{len(lines)}: line{'s' if len(lines) > 1 else ''} {named}{more}"


def _settings(llm: LLM, options: BatchOptions, reading: Reading) -> dict[str, Any]:
    """What must be equal for rows to stand in one file."""
    sampling = dict(options.sampling)
    constraint = sampling.pop("constraint", None)
    return {
        "model": llm.name,
        "model file": llm.fingerprint,
        "model defaults": llm.sampling,
        "template": llm.template_digest,
        "--system": options.system,
        "--raw": options.raw,
        "--unordered": options.unordered,
        "--row-timeout": options.row_timeout,
        "--timings": options.timings,
        "--deterministic": llm.is_deterministic,
        **reading.settings,
        **{f"--{name.replace('_', '-')}": value for name, value in sampling.items()},
        "constraint": dataclasses.asdict(constraint) if constraint else None,
    }
