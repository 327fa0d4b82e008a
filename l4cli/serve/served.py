"""The models that the server has loaded, each with its engine's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l4cli.loading.llm import LLM
from l4cli.serve.asking import Asking, AskingLimits
from l4cli.serve.counting import Counts
from l4cli.serve.engine_thread import EngineThread
from l4cli.serve.errors import ApiError


@dataclass(slots=True)
class Served:
    """One model.

    name: what clients call it.
    llm: the model, with a context that is not replaced.
    engine: the thread that computes.
    asking: how requests get there.
    """

    name: str
    llm: LLM
    counts: Counts
    engine: EngineThread
    asking: Asking

    @classmethod
    def start(cls, llm: LLM, limits: AskingLimits) -> Served:
        """Start the engine's thread; `close` ends it. Call this within the event loop."""
        counts = Counts()
        llm.engine.retain(llm.engine.backend.n_seq_max)
        engine = EngineThread(llm, counts)
        served = cls(llm.name, llm, counts, engine, Asking(engine, limits))
        engine.start()
        return served

    @property
    def default_max_tokens(self) -> int:
        """The most tokens of an answer without a limit of its own."""
        return self.llm.engine.backend.n_ctx_seq

    @property
    def num_cells(self) -> int:
        """Tokens that the KV cache can hold."""
        return self.llm.engine.backend.n_ctx

    @property
    def num_cells_used(self) -> int:
        """Tokens that the KV cache holds, or has reserved."""
        return self.num_cells - self.llm.engine.scheduler.ledger.free

    def close(self) -> None:
        """End the engine's thread. The model stays loaded."""
        self.asking.close()
        self.engine.close()


class Models:
    """All served models by name. The first one answers requests that name none."""

    def __init__(self, served: Sequence[Served]) -> None:
        self.all = tuple(served)

    def of(self, body: Mapping[str, Any]) -> Served:
        """Return the model that a request body names; ApiError if it is not served."""
        name = body.get("model")
        if served := self.find(name):
            return served
        raise ApiError(
            404,
            f"model {name!r} is not served here; served: {self.names}",
            code="model_not_found",
            param="model",
        )

    def find(self, name: object) -> Served | None:
        """Return the model of this name, the first for None; None if it is not served."""
        if name is None:
            return self.all[0]
        for served in self.all:
            if name == served.name:
                return served
        for served in self.all:
            if name == served.name.partition(":")[0]:  # without its quant
                return served
        return None

    @property
    def names(self) -> str:
        """The names of all models, to show to people."""
        return ", ".join(served.name for served in self.all)
