"""Many requests through the engine, kept full, until they are done or the user has had enough."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from l4cli.engine.completion import Collector, refused
from l4cli.engine.types import Completion, Request
from l4cli.errors import RequestError
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
    engine, collector, waiting = llm.engine, Collector(), deque(requests)
    try:
        while waiting or engine.num_unfinished:
            if stopping():
                raise StoppedEarly
            while waiting and engine.has_room:
                request = waiting.popleft()
                try:
                    engine.add_request(request)
                except RequestError as error:
                    yield refused(request, error)
                else:
                    collector.begin(request)
            yield from collector.feed(engine.step())
    finally:
        for request in requests:
            engine.abort(request.id)
