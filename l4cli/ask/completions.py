"""Many requests through the engine, kept full, until they are done or the user has had enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from l4cli.engine.types import Completion, Request
from l4cli.loading.llm import LLM


class StoppedEarly(Exception):  # noqa: N818 - not an error: the user asked for it
    """Some requests are not done, because the run was asked to stop."""


def complete(
    llm: LLM, requests: Sequence[Request], stopping: Callable[[], object] = lambda: False
) -> Iterator[Completion]:
    """Answers as they finish, in any order; StoppedEarly soon after `stopping` has become true.

    A request that cannot be served gives a Completion with finish_reason "error". Where the context
    is sized by its requests, it is made for these. Nothing of them is left in the engine.
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
