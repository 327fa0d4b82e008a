"""Counts the rows and tokens of a run, and formats its progress line and summary.

This module is pure: clocks are passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from l4cli.amounts import counted, duration
from l4cli.batch.failed_rows import FailedRows
from l4cli.batch.meter import SpeedMeter
from l4cli.batch.rows import Row
from l4cli.engine.types import StepOutput
from l4cli.sparkline import Rates

_SPAN = 10.0  # seconds over which the progress line averages its rates


@dataclass(slots=True)
class BatchStats:
    """Counts of the rows written so far, and of the tokens that went through the engine.

    failed: output rows that are errors or contain one.
    num_cached_tokens: prompt tokens found in the KV cache.
    num_restored_tokens: tokens of documents restored from the reading cache.
    num_bytes_kept: bytes of documents saved to the reading cache.
    reading: which document is being prefilled before its questions, and how far; empty if none is.
    in_work: the row that has been in work for the longest time.
    meter: measures the rates.
    """

    num_rows: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_completion_tokens: int = 0
    num_restored_tokens: int = 0
    num_bytes_kept: int = 0
    reading: str = ""
    in_work: Row | None = None
    meter: SpeedMeter = field(default_factory=SpeedMeter)
    failed: FailedRows = field(default_factory=FailedRows)

    @property
    def num_errors(self) -> int:
        """The number of rows that failed."""
        return self.failed.count

    @property
    def num_prefill_tokens(self) -> int:
        """Prompt tokens that had to be computed."""
        return self.num_prompt_tokens - self.num_cached_tokens

    def count_step(
        self, outputs: Sequence[StepOutput], seconds: float, *, has_prefill: bool
    ) -> None:
        """Count the outputs of one step of `seconds`. A prompt counts with its first output.

        has_prefill: whether the step prefilled prompts that have no output yet.
        """
        num_decode_tokens = 0
        for output in outputs:
            self.num_completion_tokens += len(output.token_ids)
            if is_first(output):
                has_prefill = True
                self.num_prompt_tokens += output.num_prompt_tokens
                self.num_cached_tokens += output.num_cached_tokens
            else:
                num_decode_tokens += len(output.token_ids)
        self.meter.add(seconds, num_decode_tokens, has_prefill=has_prefill)


def is_first(output: StepOutput) -> bool:
    """Whether an output is the first of its request, so its prompt was completed in this step."""
    return output.num_completion_tokens == len(output.token_ids)


@dataclass(slots=True)
class Progress:
    """Formats the progress line of a run.

    stats: the counts of this run.
    total: the number of input rows; None if unknown.
    num_before: rows that an earlier run has already written.
    """

    stats: BatchStats
    total: int | None = None
    num_before: int = 0
    _rates: Rates = field(default_factory=Rates)
    _samples: deque[tuple[float, int, int]] = field(default_factory=lambda: deque([(0.0, 0, 0)]))

    def below(self, seconds: float) -> tuple[str, str]:
        """Return what a tall terminal shows: the rate of tokens as bars, and the row in work."""
        stats = self.stats
        self._rates.add(seconds, stats.num_prefill_tokens + stats.num_completion_tokens)
        bars, row = self._rates.line, stats.in_work
        return f"{bars} tokens/s" if bars else "", f"row {row.id}: {row.first_words}" if row else ""

    def line(self, seconds: float) -> str:
        """Return rows, errors, rates over the last `_SPAN` seconds, and the ETA if it is known.

        `seconds` is the time since the start of the run.
        """
        stats = self.stats
        now = (seconds, stats.num_prefill_tokens, stats.num_completion_tokens)
        self._samples.append(now)
        while self._samples[1][0] <= seconds - _SPAN and len(self._samples) > 2:
            self._samples.popleft()
        before = self._samples[0]
        span = max(now[0] - before[0], 1e-9)
        done = stats.num_rows + self.num_before
        parts = [f"{done}/{self.total} rows" if self.total is not None else f"{done} rows"]
        if stats.num_errors:
            parts.append(counted(stats.num_errors, "error"))
        if stats.reading:
            parts.append(stats.reading)
        parts.append(f"prefill {(now[1] - before[1]) / span:.0f} tokens/s")
        parts.append(f"decode {(now[2] - before[2]) / span:.0f} tokens/s")
        if self.total is not None and stats.num_rows:
            left = max(0, self.total - done) * seconds / stats.num_rows
            parts.append(f"ETA {duration(left)}")
        return " · ".join(parts)


def summary(stats: BatchStats, seconds: float) -> str:
    """Return the line at the end of a run: rows, errors, tokens, rates and duration."""
    errors = f", {counted(stats.num_errors, 'error')}" if stats.num_errors else ""
    speeds = stats.meter.speeds(stats.num_prefill_tokens)
    if speeds:
        rates = (
            f"prefill {speeds.prefill_tps:.0f} tokens/s, decode {speeds.decode_tps:.0f} tokens/s · "
        )
    else:
        rates = ""
    return (
        f"{counted(stats.num_rows, 'row')}{errors} · {stats.num_prompt_tokens:,} prompt tokens "
        f"({stats.num_cached_tokens:,} cached) · {stats.num_completion_tokens:,} generated, "
        f"{stats.num_completion_tokens / max(seconds, 1e-9):.0f}/s · {rates}{duration(seconds)}"
    )


def cost(stats: BatchStats, seconds: float, price_per_hour: float) -> str:
    """Return a line with the cost of the run and of a million tokens, given the machine's price."""
    spent = price_per_hour * seconds / 3600
    generated = stats.num_completion_tokens
    every = stats.num_prompt_tokens + generated
    if not generated:
        return f"cost {spent:.4g}; nothing was generated"
    return (
        f"cost {spent:.4g}: {spent / generated * 1e6:.4g} per million generated tokens, "
        f"{spent / every * 1e6:.4g} per million prompt and generated tokens"
    )
