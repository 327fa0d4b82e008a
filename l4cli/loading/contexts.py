"""Makes the contexts of a loaded model: decides their size, their regions and their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache

from l4cli.engine.engine import Engine
from l4cli.engine.llamacpp import (
    AnswerRoutes,
    DisaggregatedBackend,
    LlamaBackend,
    LlamaModel,
    max_useful_sequences,
)
from l4cli.engine.sizing import (
    KV_PART,
    ContextSize,
    Demand,
    SizingLimits,
    choose_size,
    demand_of,
    pool_cells,
)
from l4cli.engine.types import Backend, Request
from l4cli.errors import InputError, ModelLoadError
from l4cli.loading.decision import Decision
from l4cli.loading.options import DEFAULT_N_CTX, LoadOptions
from l4cli.native.memory import memory_bytes

_FIXED_N_BATCH = 512
_ELASTIC_N_BATCH = 2048  # many prompts per decode; llama.cpp computes it n_ubatch tokens at a time
# n_batch of a deterministic model. Prompts are always computed in pieces of this many tokens, and
# only whole pieces are reused.
_PIECE = 256


class Contexts:
    """A model's current context, with the engine over it. There is at most one context at a time.

    make_backend: makes a context of a size; raises ModelLoadError if memory is short.
    limits: the largest size that a context may have.
    size: the size of a fixed context, which is made at once and which only `widen` replaces. None:
        a context is made when it is needed, and replaced when requests need another size.
    tune: whether the engine finds the best number of concurrent sequences while requests run.
    deterministic: whether a request's text must not depend on earlier requests.
    interactive: whether answers and prompts take turns.
    """

    def __init__(
        self,
        make_backend: Callable[[ContextSize], Backend],
        limits: SizingLimits,
        size: ContextSize | None = None,
        *,
        tune: bool = False,
        deterministic: bool = False,
        interactive: bool = False,
    ) -> None:
        self.limits, self.deterministic = limits, deterministic
        self._is_interactive = interactive
        self._make_backend, self._tune = make_backend, tune
        self._size, self._is_fixed, self._can_remake = size, size is not None, True
        self._engine = Engine(make_backend(size)) if size else None

    @classmethod
    def of(cls, backend: Backend) -> Contexts:
        """Wrap an existing backend, which is never replaced."""
        size = ContextSize(backend.n_ctx, backend.n_seq_max, unified=True)
        limits = SizingLimits(backend.n_seq_max, backend.n_ctx_seq, backend.n_ctx)
        contexts = cls(lambda _size: backend, limits, size)
        contexts._can_remake = False
        return contexts

    @property
    def engine(self) -> Engine:
        """The engine over the current context, which is made now if there is none."""
        if self._engine is None:
            self._make(Demand(DEFAULT_N_CTX, DEFAULT_N_CTX, num_requests=1))
        assert self._engine is not None
        return self._engine

    @property
    def is_made(self) -> bool:
        """Whether a context exists now."""
        return self._engine is not None

    @property
    def n_ctx(self) -> int:
        """Tokens that one sequence can hold, prompt and answer together."""
        return self.engine.backend.n_ctx_seq if self._is_fixed else self.limits.longest

    def fit(self, requests: Sequence[Request], *, more: bool = False, pool: bool = False) -> None:
        """Make a context for these requests; see `LLM.fit`."""
        demand = demand_of(requests, more=more, pool=pool)
        if self._engine:
            held = self._engine.backend.n_ctx_seq
            longest = max(demand.longest, 2 * held) if demand.longest > held else held
            demand = replace(demand, longest=longest)
        self._make(demand)

    def provide(self, size: ContextSize) -> None:
        """Make a context of this size, with fewer sequences if memory is short, for good."""
        self._replace(size)
        self._is_fixed = True

    def has_space_for(self, request: Request) -> bool:
        """Whether the request fits into the current context; if not, `fit` makes a longer one."""
        if self._is_fixed:
            return True
        length = len(request.prompt) + (request.params.max_tokens or 0)
        return min(length, self.n_ctx) <= self.engine.backend.n_ctx_seq

    def widen(self, count: int) -> None:
        """Replace the fixed context by one for `count` sequences, or as many as before.

        It has as many as before if memory is short.
        """
        assert self._size is not None
        self.engine.close()
        try:
            size = replace(self._size, n_seq_max=count)
            self._engine, self._size = Engine(self._make_backend(size)), size
        except ModelLoadError:
            self._engine = Engine(self._make_backend(self._size))

    def can_widen(self, count: int) -> bool:
        """Whether the context is fixed, has fewer than `count` sequences, and can be replaced."""
        can_remake = self._is_fixed and self._can_remake
        return can_remake and self.engine.backend.n_seq_max < count

    def interrupt(self) -> None:
        """Make a running step return soon. Safe from signal handlers and other threads."""
        if self._engine:
            self._engine.interrupt()

    def close(self) -> None:
        """Free the context; idempotent."""
        if self._engine:
            self._engine.close()

    def _make(self, demand: Demand) -> None:
        if self._is_fixed:
            return
        self._replace(choose_size(demand, self.limits))

    def _replace(self, size: ContextSize) -> None:
        if size != self._size:
            self.close()
            self._engine, self._size = self._engine_of(size), size

    def _engine_of(self, size: ContextSize) -> Engine:
        """Return an engine of this size, or with fewer sequences if memory is short."""
        while True:
            try:
                backend = self._make_backend(size)
            except ModelLoadError:
                if size.n_seq_max == 1:
                    raise
                fewer = size.n_seq_max // 2
                size = replace(size, n_seq_max=fewer, n_ctx=size.n_ctx // size.n_seq_max * fewer)
            else:
                return Engine(
                    backend,
                    tune=self._tune,
                    deterministic=self.deterministic,
                    takes_turns=self._is_interactive,
                )


def contexts_of(
    weights: LlamaModel, options: LoadOptions, decision: Decision, opened: ExitStack
) -> Contexts:
    """Return the contexts over loaded weights.

    A second set of weights, if prompts need one, is registered in `opened` to be closed.
    """
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
    n_batch = _FIXED_N_BATCH if options.interactive else _ELASTIC_N_BATCH
    if options.deterministic:
        n_batch = _PIECE
    maker = _Maker(weights, options, decision.kv_type, n_batch)
    if decision.prefill_on and not options.deterministic and weights.attention[0] != "recurrent":
        maker.prefill_model = cache(lambda: _prefill_model(weights, decision, opened))
    return Contexts(
        maker.make,
        limits,
        tune=options.n_seq_max == "auto",
        deterministic=options.deterministic,
        interactive=options.interactive,
    )


def limits_of(
    weights: LlamaModel, n_ctx: int | str, options: LoadOptions, kv_type: str
) -> SizingLimits:
    """Return the limits for a model's contexts.

    If `n_ctx` is a number, it is the limit in cells. If it is "auto", the cells may take a quarter
    of the machine's memory, or what `options.room` says. A sequence never holds more than the model
    was trained for.
    """
    from l4cli.fit.cache_shape import read_cache
    from l4cli.fit.memory import most_per_token

    trained = weights.n_ctx_train or DEFAULT_N_CTX
    try:
        per_token = most_per_token(read_cache(weights.metadata, str(weights.path)), kv_type)
        cells = memory_bytes() // KV_PART // per_token
    except InputError:  # an architecture whose cache does not hold keys and values
        cells = DEFAULT_N_CTX
    if options.room:
        cells = options.room.n_cells
    if isinstance(n_ctx, int):
        cells, trained = n_ctx, min(n_ctx, trained)
    return SizingLimits(
        n_seq_max=most_sequences(options), n_ctx_seq=trained, n_cells=max(cells, 256)
    )


def most_sequences(options: LoadOptions) -> int:
    """Return the most sequences that may run at once."""
    count = options.n_seq_max
    return count if isinstance(count, int) else max_useful_sequences()


@dataclass(slots=True)
class _Maker:
    """Makes contexts over loaded weights, and a second one for prompts where that is faster.

    `prefill_model` returns the weights of that second context; None: there is no second context.
    """

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
            with_states=self.options.store and (size.unified or self.options.interactive),
            routes=AnswerRoutes() if self.options.expert_counts else None,
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
    """Return the weights for prompts: the same ones, or a second set in file order."""
    if decision.prefill_on == "same":
        return weights
    others = LlamaModel(
        weights.path, repack=False, overrides=weights.overrides, vocabulary=weights.vocabulary
    )
    opened.callback(others.close)
    return others
