"""A name or a path -> a model ready to answer: located, placed on the hardware, loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Literal

from l4cli.engine.llamacpp import (
    DisaggregatedBackend,
    LlamaBackend,
    LlamaModel,
    max_useful_sequences,
)
from l4cli.engine.sizing import KV_PART, ContextSize, SizingLimits, pool_cells
from l4cli.engine.types import Backend
from l4cli.errors import InputError
from l4cli.fit.wanted import (
    ROOM_FOR_CONTEXT,
    PrefillOn,
    Wanted,
    check_context,
    decide,
    trained_context,
)
from l4cli.llm import DEFAULT_N_CTX, LLM, Contexts
from l4cli.locate import locate
from l4cli.native.memory import memory_bytes
from l4cli.native.selftest import outcome

_BATCH_N_BATCH = 2048  # many prompts a decode; llama.cpp takes it in pieces of n_ubatch
_PIECE = 256  # of a prompt, where pieces must always be the same: what is reused is whole pieces


def load(
    model: str | Path | None = None,
    *,
    ctx: int | Literal["auto", "largest"] | None = None,
    default_ctx: int = DEFAULT_N_CTX,
    parallel: int | Literal["auto"] = 1,
    threads: int | None = None,
    gpu_layers: int | Literal["auto"] = -1,
    cpu_moe: int | Literal["auto"] | None = None,
    tensor_split: Sequence[float] | Literal["auto"] | None = None,
    kv_type: str = "f16",
    force: bool = False,
    elastic: bool = False,
    deterministic: bool = False,
    store: bool = False,
    store_limit: int | None = None,
    known: LLM | None = None,
    on_progress: Callable[[float], None] | None = None,
    on_convert: Callable[[Path], None] | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> LLM:
    """Load a model by path, by its name in models.toml, or the default one.

    `ctx` tokens of context are shared by up to `parallel` sequences; None is `default_ctx`, or what
    the model was trained for if that is less. With "auto" for one of them, or `elastic`, these are
    limits: the context is made by `LLM.fit`, and how many sequences run at once is found out while
    they run. A `ctx` of "largest" is as much as fits beside the weights.
    `gpu_layers` on the graphics cards in shares of `tensor_split`, and of how many layers the
    experts stay in RAM (`cpu_moe`), is chosen where it is "auto", as is a `kv_type` of "auto";
    `on_note` is told the outcome in a line. What cannot fit is refused before it is loaded,
    unless with `force`.
    `deterministic` runs one sequence at a time, always in the same pieces: the same request gives
    the same text, whatever came before. With `store`, `recall` and `remember` keep computed
    prefixes on disk, where those of all models take at most `store_limit` bytes (a fifth of the
    disk unless given); what goes wrong there is said to `on_note`, too. What `known`, the same
    model without its weights, has found out of the file is not looked up again.
    Raises ModelNotFoundError and ModelLoadError with a line that says what to do, and UsageError
    for a `ctx` beyond what the model was trained for.
    """
    located = locate(None if model is None else str(model), on_convert=on_convert)
    if deterministic:
        parallel = 1
    if ctx is None:
        ctx = default_ctx
    elif isinstance(ctx, int):
        trained = trained_context(located.path)
        if line := check_context(located.name, ctx, trained, _most_sequences(parallel)):
            on_note(line)
    decision = decide(
        located.path,
        Wanted(
            n_ctx="auto" if ctx == "largest" else ROOM_FOR_CONTEXT if ctx == "auto" else ctx,
            n_seq_max=parallel if isinstance(parallel, int) and not elastic else 1,
            with_states=store,
            kv_type=kv_type,
            gpu_layers=gpu_layers,
            cpu_moe=cpu_moe,
            split=tensor_split,
            force=force,
        ),
    )
    for line in (outcome().warning, decision.line):
        if line:
            on_note(line)
    kv_type = decision.kv_type
    if ctx == "largest":
        ctx = decision.n_ctx
    weights = LlamaModel(
        located.path,
        n_gpu_layers=decision.gpu_layers,
        cpu_moe=decision.cpu_moe,
        tensor_split=decision.split,
        repack=decision.repack,
        on_progress=on_progress,
        known=known.vocabulary if known and isinstance(known.vocabulary, LlamaModel) else None,
    )
    opened = ExitStack()
    opened.callback(weights.close)
    prefill = None
    if decision.prefill_on and not deterministic and weights.attention[0] != "recurrent":
        prefill = cache(partial(_load_prefill, weights, decision.prefill_on, opened))
    try:
        make = partial(LlamaBackend, n_threads=threads, kv_type=kv_type, with_states=store)
        backend: Backend | Contexts
        remake = None
        if elastic or deterministic or ctx == "auto" or parallel == "auto":
            limits = sizing_limits(weights, ctx, parallel, kv_type)
            n_batch = _PIECE if deterministic else _BATCH_N_BATCH
            backend = Contexts(
                partial(_make_backend, make, weights, prefill, n_batch),
                limits,
                tune=parallel == "auto",
                deterministic=deterministic,
            )
        else:
            backend = make(weights, n_ctx=ctx, n_seq_max=parallel)
            remake = partial(_remake, make, weights, ctx)
        return LLM(
            located.name,
            weights,
            backend,
            sampling=located.sampling(weights.metadata),
            path=located.path,
            on_close=opened.close,
            on_note=on_note,
            remake=remake,
            decision=decision,
            store_limit=store_limit,
        )
    except BaseException:
        opened.close()
        raise


def _load_prefill(weights: LlamaModel, kind: PrefillOn, opened: ExitStack) -> LlamaModel:
    """What prompts are computed over: the same weights, or others in file order, to be closed."""
    if kind == "same":
        return weights
    others = LlamaModel(weights.path, repack=False, known=weights)
    opened.callback(others.close)
    return others


def _remake(
    make: Callable[..., LlamaBackend], weights: LlamaModel, n_ctx: int, n_seq_max: int
) -> LlamaBackend:
    return make(weights, n_ctx=n_ctx, n_seq_max=n_seq_max)


def _make_backend(
    make: Callable[..., LlamaBackend],
    weights: LlamaModel,
    prefill_model: Callable[[], LlamaModel] | None,
    n_batch: int,
    size: ContextSize,
) -> Backend:
    """A context of that size; beside it one for prompts, where that is faster."""
    backend = make(
        weights,
        n_ctx=size.n_ctx,
        n_seq_max=size.n_seq_max,
        n_batch=n_batch,
        unified=size.unified,
    )
    if prefill_model is None or size.unified:
        return backend

    def make_prefill() -> LlamaBackend:
        return make(
            prefill_model(),
            n_ctx=pool_cells(backend.n_ctx, backend.n_ctx_seq, n_batch),
            n_seq_max=size.n_seq_max,
            n_batch=n_batch,
            n_ubatch=n_batch,
            with_states=False,
            along_with=backend,
        )

    return DisaggregatedBackend(backend, make_prefill)


def sizing_limits(
    weights: LlamaModel, ctx: int | str, parallel: int | str, kv_type: str
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
    if isinstance(ctx, int):
        cells, trained = ctx, min(ctx, trained)
    return SizingLimits(
        n_seq_max=_most_sequences(parallel),
        n_ctx_seq=trained,
        n_cells=max(cells, 256),
    )


def _most_sequences(parallel: int | str) -> int:
    return parallel if isinstance(parallel, int) else max_useful_sequences()
