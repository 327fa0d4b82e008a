"""One run of `l4 run`: answers the rows of an input and writes them to an output."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from l4cli import console
from l4cli.batch.done import CONSTRAINT, MODEL_TIME
from l4cli.batch.files import Output, StdoutOutput
from l4cli.batch.ids import IdRegister
from l4cli.batch.input import RowsInput
from l4cli.batch.outputs import has_failed, is_own_line, to_line
from l4cli.batch.requests import BatchOptions
from l4cli.batch.retry import RetriedOutput, open_journaled
from l4cli.batch.rows import BadRow, Row
from l4cli.batch.runner import run_rows
from l4cli.batch.stats import BatchStats
from l4cli.batch.verify import Checked, Sample
from l4cli.engine.types import CompileAbortedError
from l4cli.loading.llm import LLM
from l4cli.native import watcher
from l4cli.signals import Interrupts
from l4cli.speeds import Fact, OtherWork, RunSpeeds, is_busy, remember


class RunSession:
    """Runs rows through a loaded model.

    llm: the model.
    options: settings for every row.
    output: where the answers go.
    interrupts: counts the user's interrupts, which stop the run.
    num_verified: how many answers `verify` generates again.

    The attribute `on_step` is called after each step of the engine. Raises RequestError if
    `options.sampling` is invalid.
    """

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
        self.started = time.perf_counter()
        self.seconds = 0.0  # the duration of `answer`
        self.is_whole = False  # whether `answer` has come to the end of the rows
        self.on_step: Callable[[], None] = lambda: None
        # Check the settings here: otherwise a wrong one would fail every row.
        with suppress(CompileAbortedError):  # `answer` will see the interrupt
            llm.check(llm.params(**options.sampling))

    def answer(self, rows: Iterable[Row | BadRow]) -> None:
        """Write an output row for every row that has none yet, and record the measured rates."""
        self.started, others = time.perf_counter(), OtherWork()
        answered = run_rows(
            self.llm,
            self.output.skip_done(self.ids.watch(rows)),
            self.options,
            self.stats,
            stopping=lambda: self.interrupts.count,
            on_step=lambda: self.on_step(),
            on_answer=self.sample.offer,
            on_reading=lambda reading: self._note_rates(reading.rates, others),
            suspects=self.output.suspects,
        )
        with closing(answered):  # also if the output cannot be written: nothing runs on
            for row, output in answered:
                self.output.write(
                    to_line(output),
                    row.digest,
                    failed=has_failed(output),
                    document=row.document_digest,
                )
        self.seconds = time.perf_counter() - self.started
        if speeds := self.stats.meter.speeds(self.stats.num_prefill_tokens):
            n_seq_max = self.llm.engine.backend.n_seq_max
            run = RunSpeeds(n_seq_max, speeds.prefill_tps, speeds.decode_tps)
            self._note_rates([run], others)
        if not self.interrupts:
            self.output.finish()
            self.is_whole = True

    def _note_rates(self, rates: Iterable[Fact], others: OtherWork) -> None:
        remember(self.conditions, *rates, busy=is_busy(others.load()))

    def verify(self) -> None:
        """Run the sampled requests again, one at a time; fills `checked`."""
        if not self.interrupts:
            self.checked = list(self.sample.check(self.llm, lambda: self.interrupts.count))

    @property
    def resume_option(self) -> str:
        """The option that continues this output after an interrupt."""
        return "--retry-errors" if isinstance(self.output, RetriedOutput) else "--resume"


@contextmanager
def open_output(
    out: Path | None,
    llm: LLM,
    options: BatchOptions,
    reading: RowsInput,
    resume: bool,
    retry_errors: bool,
    overwrite: bool,
) -> Iterator[Output]:
    """Open the output of a run: stdout if `out` is None, otherwise a file with its journal.

    After a crash, the watcher prints how to continue with it.
    """
    if out is None:
        watcher.tell("the answers so far are on stdout; only a run with -o FILE can be continued")
        yield StdoutOutput()
        return
    with open_journaled(
        out,
        _settings(llm, options, reading),
        resume=resume,
        retry_errors=retry_errors,
        overwrite=overwrite,
        unordered=options.unordered,
        is_own=is_own_line,
    ) as output:
        if output.num_unnoted:
            console.note(
                f"{out}: rows at its end that its journal does not have: {output.num_unnoted}; "
                "they are asked again"
            )
        if isinstance(output, RetriedOutput):
            for change in output.changed:
                console.note(f"{out} was started {change}; rows that are answered stay as they are")
        again = "--retry-errors" if retry_errors else "--resume"
        watcher.tell(
            f"every row that was written to {out} is complete",
            f"go on with: {console.command_line(again)}",
            journal=output.journal,
        )
        yield output


def _settings(llm: LLM, options: BatchOptions, reading: RowsInput) -> dict[str, Any]:
    """Return the settings that all rows of one output file must share."""
    sampling = dict(options.sampling)
    constraint = sampling.pop("constraint", None)
    return {
        "model": llm.name,
        "model file": llm.fingerprint,
        MODEL_TIME: ", ".join(llm.file_times),
        "model defaults": llm.sampling,
        "template": llm.encoder.template_digest,
        "--system": options.system,
        "--raw": options.raw,
        "--unordered": options.unordered,
        "--row-timeout": options.row_timeout,
        "--timings": options.timings,
        "--expert-counts": options.expert_counts,
        "--deterministic": llm.is_deterministic,
        **reading.settings,
        **{f"--{name.replace('_', '-')}": value for name, value in sampling.items()},
        CONSTRAINT: {"kind": constraint.kind, "source": constraint.source} if constraint else None,
    }
