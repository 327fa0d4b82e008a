"""Runs tasks of lm-evaluation-harness on a loaded model, without its command line."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l4cli.engine.types import DecodeAbortedError
from l4cli.errors import InputError, L4Error, UsageError
from l4cli.eval.harness import model_class
from l4cli.loading.llm import LLM

_MOST_REASON = 300  # characters


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of one task, as the harness names and computes it. error: None if it has none."""

    task: str
    name: str
    value: float
    error: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What to run, as the harness's own options have it.

    tasks: their names, or those of groups. include: a folder with more tasks, in YAML.
    num_few_shot, limit: examples before each question, and questions of a task; None for the
        task's own numbers.
    is_chat: whether questions are put into the model's chat template.
    """

    tasks: Sequence[str]
    include: Path | None = None
    num_few_shot: int | None = None
    limit: int | None = None
    is_chat: bool = False


class Runner:
    """The tasks, found by their names.

    UsageError if the harness is not installed, or does not have a task of that name.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._class = model_class()
        with _quiet():
            from lm_eval.tasks import TaskManager

            include = None if asked.include is None else str(asked.include)
            self._manager = TaskManager(include_path=include)
        known = set(self._manager.all_tasks)
        for task in asked.tasks:
            if task not in known:
                near = difflib.get_close_matches(task, known, n=1)
                way_out = "give the folder of your own tasks with --include-path"
                if near:
                    way_out = f"did you mean {near[0]}?"
                elif include:
                    way_out = f"{include} has none of that name"
                raise UsageError(
                    f"--lm-eval {task}: lm-evaluation-harness has no such task; {way_out}"
                )

    @contextmanager
    def on(self, llm: LLM, max_length: int | None) -> Iterator[Any]:
        """Yield the model class over a loaded model, which stays open."""
        model = self._class(llm=llm, max_length=max_length)
        try:
            yield model
        finally:
            model.close()

    def run(self, model: Any, task: str) -> list[Metric]:
        """Run one task, or a group. Raises InputError with what the harness says of a bad task."""
        asked = self._asked
        with _quiet():
            from lm_eval import simple_evaluate

            try:
                found = simple_evaluate(
                    model=model,
                    tasks=[task],
                    num_fewshot=asked.num_few_shot,
                    limit=asked.limit,
                    apply_chat_template=asked.is_chat,
                    task_manager=self._manager,
                    log_samples=False,
                )
            except (L4Error, DecodeAbortedError):
                raise
            except Exception as error:  # whatever the harness does with a task that is not right
                reason = " ".join(str(error).split())[:_MOST_REASON] or "it may be empty"
                raise InputError(f"--lm-eval {task}: {type(error).__name__}: {reason}") from error
        metrics = list(_metrics(found or {}))
        if not metrics:
            raise InputError(f"--lm-eval {task}: it has no questions")
        return metrics


def _metrics(found: Any) -> Iterator[Metric]:
    """Yield the figures of the harness's results: "acc,none" with its "acc_stderr,none"."""
    for task, values in found.get("results", {}).items():
        count = found.get("n-samples", {}).get(task, {}).get("effective", 0)
        for key, value in values.items():
            name, _, kind = key.partition(",")
            if not kind or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{name}_stderr,{kind}")
            label = name if kind == "none" else f"{name} ({kind})"
            usable = float(error) if isinstance(error, int | float) else None
            yield Metric(task, label, float(value), usable, int(count))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the harness's log and bars off the terminal: l4 has a progress line of its own."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
