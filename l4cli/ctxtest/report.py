"""What a context test found, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from l4cli.amounts import tokens
from l4cli.ctxtest.results import ABLE, THRESHOLD, Results


def columns(results: Results) -> list[str]:
    """Headings over `rows`."""
    return ["LENGTH", *(task.upper() for task in results.tasks), "SCORE", "VALUES"]


def rows(results: Results) -> Iterator[list[str]]:
    """The scores of each length that was tested, by task and in all."""
    for length in sorted(results.judged):
        scores = [results.task_score(length, task) for task in results.tasks]
        overall = _percent(results.score(length))
        values = str(results.num_values(length))
        yield [tokens(length), *map(_percent, scores), overall, values]


def verdict(results: Results) -> Iterator[str]:
    """The effective length in words, and what it does not rest on."""
    found = results.effective()
    unable = [task for task in results.tasks if task not in results.able_tasks]
    if found is None:
        yield (
            f"effective length: unknown, since the model finds less than {ABLE:.0%} "
            "even at short lengths"
        )
        return
    at_least = f"{THRESHOLD:.0%} of its {found.base_score:.0%} at short lengths"
    if found.n_tokens == 0:
        yield f"effective length: below {tokens(min(results.judged))} ({at_least} is the mark)"
    elif found.n_tokens == found.n_longest:
        yield f"effective length: at least {tokens(found.n_tokens)}, the longest tested"
    else:
        yield f"effective length: {tokens(found.n_tokens)} (it keeps {at_least} up to there)"
    if unable:
        yield f"left out, as the model cannot do it at short lengths: {', '.join(unable)}"


def _percent(score: float | None) -> str:
    return "–" if score is None else f"{score:.0%}"
