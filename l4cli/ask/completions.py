"""Runs many requests through the engine until all are done or the user stops the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from l4cli.engine.types import Completion, Request
from l4cli.loading.llm import LLM


class StoppedEarly(Exception):  # noqa: N818 - not an error: the user asked for it
    """Raised when a run was stopped before all its requests were done."""


def complete(
    llm: LLM, requests: Sequence[Request], stopping: Callable[[], object] = lambda: False
) -> Iterator[Completion]:
    """Yield completions as they finish, in any order.

    A request that cannot be served yields a Completion with finish_reason "error". An automatic
    context is resized for these requests if necessary. Raises StoppedEarly soon after `stopping`
    has become true. No request is left in the engine afterwards.
    """
    if not requests:
        return
    if not llm.is_sized or not all(map(llm.has_space_for, requests)):
        llm.fit(requests)
    num_done = 0
    with closing(llm.engine.generate(requests, stopping)) as completions:
        for completion in completions:
            if completion.finish_reason != "abort":
                num_done += 1
                yield completion
    if num_done < len(requests):
        raise StoppedEarly
