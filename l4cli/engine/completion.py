"""Joins step outputs into whole answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from l4cli.engine.thoughts import Tags, Thoughts
from l4cli.engine.types import Completion, Constraint, Request, StepOutput, TokenLogprob
from l4cli.errors import RequestError


@dataclass(slots=True)
class _Parts:
    seed: int | None
    started: float
    first: float | None = None
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Collector:
    """Collects the outputs of requests in flight. Times count from `begin`."""

    def __init__(self) -> None:
        self._parts: dict[str, _Parts] = {}

    def begin(self, request: Request) -> None:
        self._parts[request.id] = _Parts(request.params.seed, time.perf_counter())

    def feed(self, outputs: Iterable[StepOutput]) -> Iterator[Completion]:
        """Add outputs; yield the completions of the requests that they end."""
        for output in outputs:
            parts = self._parts[output.request_id]
            if parts.first is None:
                parts.first = time.perf_counter()
            parts.texts.append(output.text)
            parts.token_ids += output.token_ids
            parts.logprobs += output.logprobs
            if output.finish_reason:
                del self._parts[output.request_id]
                yield _completion(output, parts)


def without_thought(completion: Completion, constraint: Constraint | None) -> Completion:
    """The completion, with what was thought before the constraint began apart from the text."""
    if constraint is None or constraint.thinking in ("no", "channels"):
        return completion
    if constraint.kind == "calls":  # whoever parses them knows thoughts
        return completion
    found = Thoughts(Tags(*constraint.tags), is_begun=True).split(completion.text)
    if not found:
        return completion
    return replace(completion, text=found[1], reasoning=found[0])


def refused(request: Request, error: RequestError) -> Completion:
    """The completion of a request that the engine refused."""
    return Completion(request.id, "", (), "error", len(request.prompt), 0, 0, 0, 0, str(error))


def _completion(last: StepOutput, parts: _Parts) -> Completion:
    assert last.finish_reason is not None
    now, said = time.perf_counter(), last.said
    return Completion(
        request_id=last.request_id,
        text=said.written if said else "".join(parts.texts),
        token_ids=tuple(parts.token_ids),
        finish_reason=last.finish_reason,
        num_prompt_tokens=last.num_prompt_tokens,
        num_cached_tokens=last.num_cached_tokens,
        num_completion_tokens=last.num_completion_tokens,
        ttft=(parts.first or now) - parts.started,
        seconds=now - parts.started,
        error=last.error,
        seed=parts.seed,
        logprobs=tuple(parts.logprobs),
        reasoning=said.reasoning if said else "",
        said=said,
        stopped_by=last.stopped_by,
        experts=last.experts,
    )
