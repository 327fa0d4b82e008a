"""Rows: each is answered by a tiny model, as `l4 run` does it, or becomes an error row."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import constraints as made_constraints
import odd_rows
import values as made_values
from checkpoints import write_checkpoint

import convert
from benchmarks.sweeping.trial import Ended, Trial
from l4cli.batch.files import StdoutOutput
from l4cli.batch.input import RowsInput
from l4cli.batch.lines import lines_of
from l4cli.batch.requests import BatchOptions
from l4cli.batch.session import RunSession
from l4cli.signals import Interrupts

NUM_VALUES, NUM_ROWS = 20, 40  # in one trial


def values(scratch: Path) -> Trial:
    """Numbers at their edges in the fields of rows."""
    single = list(made_values.single())

    def lines(seed: int) -> Iterable[str]:
        start = seed * NUM_VALUES
        if start < len(single):
            return single[start : start + NUM_VALUES]
        return made_values.several(seed, NUM_VALUES)

    runner = _Runner(scratch)
    return lambda seed: runner.run("\n".join(lines(seed)).encode())


def constraints(scratch: Path) -> Trial:
    """Constraints of any size."""
    runner = _Runner(scratch)
    return lambda seed: runner.run("\n".join(made_constraints.rows(seed, 1)).encode())


def rows(scratch: Path) -> Trial:
    """Rows of every form and format, whole and broken."""
    runner = _Runner(scratch)
    (scratch / "notes.md").write_text("The lamp is green.")

    def trial(seed: int) -> Ended:
        given = odd_rows.make(seed, NUM_ROWS)
        source = next((name.removeprefix("--") for name in given.options), "json")
        return runner.run(given.data, source, given.ids)

    return trial


class _Runner:
    """A loaded model, and runs of rows on it."""

    def __init__(self, scratch: Path) -> None:
        from l4cli.loading.load import load

        checkpoint = write_checkpoint(scratch / "tiny")
        path = convert.convert(convert.plan(checkpoint, "F32"), scratch / "tiny.gguf").path
        self._llm = load(path, ctx=4096, parallel="auto", threads=1, elastic=True)
        self._options = BatchOptions(sampling={"max_tokens": 3})
        self._input = scratch / "rows"

    def run(self, data: bytes, source: Any = "json", ids: list[str | None] | None = None) -> Ended:
        """Answer rows; a finding is a row without an answer, or an answer that is none.

        ids: those that the answers should have; None for one that may be any.
        """
        self._input.write_bytes(data)
        reading = RowsInput(str(self._input), source)
        output = _Kept()
        with reading.open(None) as file:
            session = RunSession(self._llm, self._options, output, Interrupts())
            session.answer(reading.rows(file))
        return _judged(output.lines, ids or [None] * len(list(lines_of(io.BytesIO(data)))))


def _judged(lines: list[str], ids: list[str | None]) -> Ended:
    if len(lines) != len(ids):
        return Ended(finding=f"{len(lines)} answers to {len(ids)} rows")
    answers = [json.loads(line, parse_constant=_refuse) for line in lines]
    found = [str(answer.get("custom_id", answer.get("id"))) for answer in answers]
    for row, (is_, expected) in enumerate(zip(found, ids, strict=True), 1):
        if expected is not None and is_ != expected:
            return Ended(finding=f"row {row} has the id {is_}, not {expected}")
    for row, answer in enumerate(answers, 1):
        if "bug in l4" in lines[row - 1] or "Traceback" in lines[row - 1]:
            return Ended(finding=f"row {row}: {lines[row - 1]}")
        if not ("error" in answer or len(answer) > 2):
            return Ended(finding=f"row {row} has no answer: {lines[row - 1]}")
    num_refused = sum(answer.get("error") is not None for answer in answers)
    return Ended(len(answers) - num_refused, num_refused)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class _Kept(StdoutOutput):
    """Keeps the answers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(
        self, line: str, _digest: bytes, *, failed: bool, document: bytes | None = None
    ) -> None:
        self.lines.append(line)
