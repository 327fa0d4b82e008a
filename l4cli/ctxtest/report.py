"""Formats the results of a context test for the terminal. This module is pure."""

from __future__ import annotations

from collections.abc import Iterator

from l4cli.amounts import tokens
from l4cli.ctxtest.results import ABLE, THRESHOLD, Results


def columns(results: Results) -> list[str]:
    """Return the headings of the table whose lines `rows` yields."""
    return ["LENGTH", *(task.upper() for task in results.tasks), "SCORE", "VALUES"]


def rows(results: Results) -> Iterator[list[str]]:
    """Yield the scores of each tested length, by task and over all tasks."""
    for length in sorted(results.judged):
        scores = [results.task_score(length, task) for task in results.tasks]
        overall = _percent(results.score(length))
        values = str(results.num_values(length))
        yield [tokens(length), *map(_percent, scores), overall, values]


def verdict(results: Results) -> Iterator[str]:
    """Yield a line with the effective length, and one with the tasks that are left out, if any."""
    found = results.effective()
    unable = [task for task in results.tasks if task not in results.able_tasks]
    if found is None:
        yield (
            f"effective length: unknown, because the model finds less than {ABLE:.0%} "
            "even at short lengths"
        )
        return
    at_least = f"{THRESHOLD:.0%} of the {found.base_score:.0%} it reaches at short lengths"
    if found.n_tokens == 0:
        yield (
            f"effective length: below {tokens(min(results.judged))} "
            f"(it scores less than {at_least})"
        )
    elif found.n_tokens == found.n_longest:
        yield f"effective length: at least {tokens(found.n_tokens)}, the longest tested"
    else:
        yield f"effective length: {tokens(found.n_tokens)} (up to there it keeps {at_least})"
    if unable:
        yield f"tasks left out, too hard for the model even at short lengths: {', '.join(unable)}"


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{score:.0%}"
