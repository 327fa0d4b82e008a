"""How the contexts of a loaded model are made: how large, in what parts, over which weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

from l4cli.engine.llamacpp import (
    DisaggregatedBackend,
    LlamaBackend,
    LlamaModel,
    max_useful_sequences,
)
from l4cli.engine.sizing import KV_PART, ContextSize, SizingLimits, pool_cells
from l4cli.engine.types import Backend
from l4cli.errors import InputError
from l4cli.loading.decision import Decision
from l4cli.loading.options import DEFAULT_N_CTX, LoadOptions
from l4cli.native.memory import memory_bytes

_FIXED_N_BATCH = 512
_ELASTIC_N_BATCH = 2048  # many prompts a decode; llama.cpp takes it in pieces of n_ubatch
_PIECE = 256  # of a prompt, where pieces must always be the same: what is reused is whole pieces


@dataclass(frozen=True, slots=True)
class Contexts:
    """Makes a model's contexts. `make_backend` raises ModelLoadError where memory falls short.

    `limits` are how large they may be. With a `size` there is one of that size, which only
    `LLM.allow_parallel` replaces; else `LLM.fit` makes them as requests need. With `tune` the
    number of sequences that run at once is found out while they run.
    """

    make_backend: Callable[[ContextSize], Backend]
    limits: SizingLimits
    size: ContextSize | None = None
    tune: bool = False
    deterministic: bool = False


def contexts_of(
    weights: LlamaModel, options: LoadOptions, decision: Decision, opened: ExitStack
) -> Contexts:
    """The contexts of loaded weights. What else they need is closed with `opened`."""
    n_ctx: int | str = decision.n_ctx
    if options.ctx != "largest":
        n_ctx = "auto" if options.ctx == "auto" else options.n_ctx
    if not options.is_elastic:
        assert isinstance(n_ctx, int)
        assert isinstance(options.n_seq_max, int)
        size = ContextSize(n_ctx, options.n_seq_max, unified=True)
        limits = SizingLimits(size.n_seq_max, n_ctx, n_ctx)
        maker = _Maker(weights, options, decision.kv_type, _FIXED_N_BATCH)
        return Contexts(maker.make, limits, size)
    limits = limits_of(weights, n_ctx, options, decision.kv_type)
    n_batch = _PIECE if options.deterministic else _ELASTIC_N_BATCH
    maker = _Maker(weights, options, decision.kv_type, n_batch)
    if decision.prefill_on and not options.deterministic and weights.attention[0] != "recurrent":
        maker.prefill_model = cache(lambda: _prefill_model(weights, decision, opened))
    return Contexts(
        maker.make,
        limits,
        tune=options.n_seq_max == "auto",
        deterministic=options.deterministic,
    )


def limits_of(
    weights: LlamaModel, n_ctx: int | str, options: LoadOptions, kv_type: str
) -> SizingLimits:
    """What is given holds; else as much as the model was trained for, in a part of the memory."""
    from l4cli.fit.cache_shape import read_cache
    from l4cli.fit.memory import most_per_token

    trained = weights.n_ctx_train or DEFAULT_N_CTX
    try:
        per_token = most_per_token(read_cache(weights.metadata, str(weights.path)), kv_type)
        cells = memory_bytes() // KV_PART // per_token
    except InputError:  # an architecture whose cache is not of keys and values
        cells = DEFAULT_N_CTX
    if isinstance(n_ctx, int):
        cells, trained = n_ctx, min(n_ctx, trained)
    return SizingLimits(
        n_seq_max=most_sequences(options), n_ctx_seq=trained, n_cells=max(cells, 256)
    )


def most_sequences(options: LoadOptions) -> int:
    """How many sequences may run at once."""
    count = options.n_seq_max
    return count if isinstance(count, int) else max_useful_sequences()


@dataclass(slots=True)
class _Maker:
    """Makes contexts over loaded weights; for prompts one of their own, where that is faster."""

    weights: LlamaModel
    options: LoadOptions
    kv_type: str
    n_batch: int
    prefill_model: Callable[[], LlamaModel] | None = None

    def make(self, size: ContextSize) -> Backend:
        backend = LlamaBackend(
            self.weights,
            n_ctx=size.n_ctx,
            n_seq_max=size.n_seq_max,
            n_batch=self.n_batch,
            n_threads=self.options.threads,
            kv_type=self.kv_type,
            unified=size.unified,
            with_states=self.options.store,
        )
        prefill_model = self.prefill_model
        if prefill_model is None or size.unified:
            return backend

        def make_prefill() -> LlamaBackend:
            return LlamaBackend(
                prefill_model(),
                n_ctx=pool_cells(backend.n_ctx, backend.n_ctx_seq, self.n_batch),
                n_seq_max=size.n_seq_max,
                n_batch=self.n_batch,
                n_ubatch=self.n_batch,
                n_threads=self.options.threads,
                kv_type=self.kv_type,
                along_with=backend,
            )

        return DisaggregatedBackend(backend, make_prefill)


def _prefill_model(weights: LlamaModel, decision: Decision, opened: ExitStack) -> LlamaModel:
    """What prompts are computed over: the same weights, or others in file order."""
    if decision.prefill_on == "same":
        return weights
    others = LlamaModel(weights.path, repack=False, vocabulary=weights.vocabulary)
    opened.callback(others.close)
    return others
