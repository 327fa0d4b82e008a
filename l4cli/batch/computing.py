"""What the runner needs of an engine, so that rows can share one that others use, too.

`l4 run` has the engine of its model for itself (`OwnEngine`). `l4 serve` lends its engine to the
rows of a batch: `l4cli/serve/batches/sharing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from l4cli.engine.types import Request, StepOutput
from l4cli.errors import L4Error
from l4cli.loading.llm import LLM


class Refused(NamedTuple):
    """A request that was added, and that the engine did not take."""

    request_id: str
    error: L4Error


class Computing(Protocol):
    """Computes the requests of rows. `Engine` and `LLM` say what the methods do."""

    @property
    def has_room(self) -> bool:
        """Whether another request should be added now."""
        ...

    @property
    def waiting(self) -> set[str]:
        """Ids of the requests that are not computed yet."""
        ...

    @property
    def is_sized(self) -> bool: ...

    def fit(self, requests: Sequence[Request], *, more: bool, pool: bool = False) -> None: ...

    def has_space_for(self, request: Request) -> bool: ...

    def add_request(self, request: Request) -> None:
        """Queue a request. It is refused by an L4Error, or later by what `step` returns."""
        ...

    def step(self) -> Sequence[StepOutput | Refused]: ...

    def abort(self, request_id: str) -> StepOutput | None: ...


class OwnEngine:
    """The engine of a model that nobody else uses. Its context may be resized between requests."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    @property
    def has_room(self) -> bool:
        return self._llm.engine.has_room

    @property
    def waiting(self) -> set[str]:
        return self._llm.engine.waiting

    @property
    def is_sized(self) -> bool:
        return self._llm.is_sized

    def fit(self, requests: Sequence[Request], *, more: bool, pool: bool = False) -> None:
        self._llm.fit(requests, more=more, pool=pool)

    def has_space_for(self, request: Request) -> bool:
        return self._llm.has_space_for(request)

    def add_request(self, request: Request) -> None:
        self._llm.engine.add_request(request)

    def step(self) -> Sequence[StepOutput]:
        return self._llm.engine.step()

    def abort(self, request_id: str) -> StepOutput | None:
        return self._llm.engine.abort(request_id)
