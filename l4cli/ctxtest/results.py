"""Computes scores by length and task, scores by length and depth, and the effective length.

This module is pure. The effective length is defined as in NoLiMa: a model's base score is its best
score at short lengths, and it still uses a length well if it scores at least 85% of the base score
there. A length counts only if all shorter lengths do. A task that the model cannot do even at short
lengths says nothing about lengths, so it is left out. (RULER instead uses one threshold for all
models, 85.6%, which Llama 2 7B reaches at 4k tokens.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4cli.ctxtest.scoring import Judged
from l4cli.speeds import EffectiveLength

SHORT = 1024  # tokens: lengths up to this are short; if none is, the shortest tested length is
THRESHOLD = 0.85  # the share of the base score that a model must reach at a length
ABLE = 0.5  # tasks with a lower base score are left out


@dataclass(slots=True)
class Results:
    """The answers so far, by length, and the scores computed from them.

    lengths: the lengths to test, in tokens.
    depths: the depths of the needles, 0.0 to 1.0.
    tasks: the names of the tasks.
    judged: the judged answers, by length.
    """

    lengths: Sequence[int]
    depths: Sequence[float]
    tasks: Sequence[str]
    judged: dict[int, list[Judged]] = field(default_factory=dict)

    def add(self, length: int, judged: Judged) -> None:
        self.judged.setdefault(length, []).append(judged)

    def task_score(self, length: int, task: str) -> float | None:
        """Return the share of a task's values that were found; None if it was not tested there."""
        return _share(judged.found for judged in self._of(length, task))

    def cell(self, length: int, depth: float) -> float | None:
        """Return the share of the values at a depth that were found, over the `mapped_tasks`."""
        return _share(
            [found]
            for task in self.mapped_tasks
            for judged in self._of(length, task)
            for found, (_, at) in zip(judged.found, judged.probe.expected, strict=True)
            if at == depth
        )

    def num_values(self, length: int) -> int:
        """Return the number of values that the scores of a length are based on."""
        return sum(len(judged.found) for judged in self.judged.get(length, []))

    def base_score(self, task: str) -> float | None:
        """Return a task's best score at short lengths; None if there is none."""
        return self._base(lambda length: self.task_score(length, task))

    @property
    def able_tasks(self) -> list[str]:
        """The tasks that the model can do at short lengths."""
        return [task for task in self.tasks if (self.base_score(task) or 0.0) >= ABLE]

    @property
    def mapped_tasks(self) -> Sequence[str]:
        """The tasks for scores by depth: those the model can do, or all if it can do none."""
        return self.able_tasks or self.tasks

    def score(self, length: int) -> float | None:
        """Return the unweighted mean score of the tasks that the model can do.

        None if there are none, or one of them was not tested at this length.
        """
        scores = [self.task_score(length, task) for task in self.able_tasks]
        known = [score for score in scores if score is not None]
        return sum(known) / len(known) if known and len(known) == len(scores) else None

    def effective(self) -> EffectiveLength | None:
        """Return the effective length over the tasks that the model can do; None without any."""
        return self._effective(self.score)

    def effective_of(self, task: str) -> EffectiveLength | None:
        """Return the effective length for one task; None if it is too hard at short lengths."""
        if task not in self.able_tasks:
            return None
        return self._effective(lambda length: self.task_score(length, task))

    def as_json(self) -> dict[str, Any]:
        """Return the scores, and every question with its answer, for --json."""
        tested = sorted(self.judged)
        effective = self.effective()
        return {
            "effective_length": effective.n_tokens if effective else None,
            "longest_tested": max(tested, default=None),
            "base_score": _rounded(effective.base_score) if effective else None,
            "effective_length_by_task": {
                task: found.n_tokens if (found := self.effective_of(task)) else None
                for task in self.tasks
            },
            "tasks_left_out": [task for task in self.tasks if task not in self.able_tasks],
            "scores": [
                {
                    "length": length,
                    "score": _rounded(self.score(length)),
                    "values": self.num_values(length),
                    **{task: _rounded(self.task_score(length, task)) for task in self.tasks},
                }
                for length in tested
            ],
            "cells": [
                {"length": length, "depth": depth, "score": _rounded(self.cell(length, depth))}
                for length in tested
                for depth in self.depths
            ],
            "questions": [
                {
                    "length": length,
                    "task": judged.probe.task,
                    "question": judged.probe.question,
                    "expected": [
                        {"value": value, "depth": depth, "found": found}
                        for (value, depth), found in zip(
                            judged.probe.expected, judged.found, strict=True
                        )
                    ],
                    "answer": judged.answer,
                }
                for length in tested
                for judged in self.judged[length]
            ],
        }

    def _of(self, length: int, task: str) -> Iterable[Judged]:
        return (judged for judged in self.judged.get(length, []) if judged.probe.task == task)

    def _base(self, score: Callable[[int], float | None]) -> float | None:
        tested = sorted(self.judged)
        short = [length for length in tested if length <= SHORT] or tested[:1]
        known = [found for length in short if (found := score(length)) is not None]
        return max(known, default=None)

    def _effective(self, score: Callable[[int], float | None]) -> EffectiveLength | None:
        base = self._base(score)
        if base is None:
            return None
        effective, at = 0, score(min(self.judged)) or 0.0
        for length in sorted(self.judged):
            found = score(length)
            if found is None or found < THRESHOLD * base:
                break
            effective, at = length, found
        return EffectiveLength(effective, max(self.judged), at, base)


def _share(found: Iterable[Sequence[bool]]) -> float | None:
    values = [value for values in found for value in values]
    return sum(values) / len(values) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
