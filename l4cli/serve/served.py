"""The models that the server has loaded, each with its engine's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from l4cli.loading.llm import LLM
from l4cli.serve.asking import Asking
from l4cli.serve.counting import Counts
from l4cli.serve.embedding.served import ServedEmbedder
from l4cli.serve.engine_thread import EngineThread
from l4cli.serve.errors import ApiError
from l4cli.serve.limits import AskingLimits


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
    """All served models by name. The first of a kind answers requests that name none.

    all: those that write text. embedders: those that make embeddings.
    """

    def __init__(self, served: Sequence[Served], embedders: Sequence[ServedEmbedder] = ()) -> None:
        self.all, self.embedders = tuple(served), tuple(embedders)

    def of(self, body: Mapping[str, Any]) -> Served:
        """Return the model that a request body names; ApiError if it is not served."""
        name = body.get("model")
        if served := self.find(name):
            return served
        if (other := _named(self.embedders, name)) or not self.all:
            which = other.name if other else self.embedder_names
            raise ApiError(
                400,
                f"{which} makes embeddings and writes no text: ask /v1/embeddings",
                code="model_not_supported",
                param="model",
            )
        raise _not_served(name, self.names)

    def find(self, name: object) -> Served | None:
        """Return the model of this name, the first for None; None if it is not served."""
        return _named(self.all, name)

    def embedder_of(self, body: Mapping[str, Any]) -> ServedEmbedder:
        """Return the embedding model that a request body names; ApiError if it is not served."""
        name = body.get("model")
        if served := _named(self.embedders, name):
            return served
        if not self.embedders:
            raise ApiError(
                404,
                "no embedding model is served here: start l4 serve with --embed MODEL",
                code="model_not_found",
                param="model",
            )
        if other := self.find(name):
            raise ApiError(
                400,
                f"{other.name} writes text and makes no embeddings; these are made by "
                f"{self.embedder_names}",
                code="model_not_supported",
                param="model",
            )
        raise _not_served(name, self.embedder_names)

    def embedder_named(self, name: object) -> ServedEmbedder | None:
        """Return the embedding model of this name; for None, the first if no model writes text."""
        return None if name is None and self.all else _named(self.embedders, name)

    def any_of(self, name: str) -> Served | ServedEmbedder:
        """Return the model of this name, of either kind; ApiError if it is not served."""
        served = self.find(name) or _named(self.embedders, name)
        if served is None:
            both = ", ".join(filter(None, (self.names, self.embedder_names)))
            raise _not_served(name, both)
        return served

    @property
    def names(self) -> str:
        """The names of the models that write text, to show to people."""
        return ", ".join(served.name for served in self.all)

    @property
    def embedder_names(self) -> str:
        """The names of the models that make embeddings, to show to people."""
        return ", ".join(served.name for served in self.embedders)


_AnyServed = TypeVar("_AnyServed", Served, ServedEmbedder)


def _named(all_served: Sequence[_AnyServed], name: object) -> _AnyServed | None:
    """Return the model of this name, with or without its quantization; the first for None."""
    if name is None:
        return all_served[0] if all_served else None
    for served in all_served:
        if name == served.name:
            return served
    for served in all_served:
        if name == served.name.partition(":")[0]:  # without its quantization
            return served
    return None


def _not_served(name: object, names: str) -> ApiError:
    return ApiError(
        404,
        f"model {name!r} is not served here; served: {names}",
        code="model_not_found",
        param="model",
    )
