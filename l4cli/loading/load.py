"""Loads a model from a name or a path: finds the file, places it on the hardware, loads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from l4cli.engine.llamacpp import LlamaModel
from l4cli.loading.contexts import Contexts, contexts_of, limits_of
from l4cli.loading.decide import decide, line_without_cards
from l4cli.loading.file import ModelFile
from l4cli.loading.llm import LLM
from l4cli.loading.options import DEFAULT_N_CTX, Auto, LoadOptions
from l4cli.loading.vocabulary import VocabularyBackend
from l4cli.models.installed import mark_used
from l4cli.models.locate import locate
from l4cli.native.selftest import outcome

Note = Callable[[str], None]


def load(
    model: str | Path | None = None,
    *,
    ctx: int | Literal["auto", "largest"] | None = None,
    default_ctx: int = DEFAULT_N_CTX,
    parallel: int | Auto = 1,
    threads: int | None = None,
    gpu_layers: int | Auto = -1,
    cpu_moe: int | Auto | None = None,
    tensor_split: Sequence[float] | Auto | None = None,
    kv_type: str = "f16",
    experts: int | None = None,
    force: bool = False,
    elastic: bool = False,
    deterministic: bool = False,
    store: bool = False,
    store_limit: int | None = None,
    on_progress: Callable[[float], None] | None = None,
    on_convert: Callable[[Path], None] | None = None,
    on_note: Note = lambda text: None,
) -> LLM:
    """Load a model by path, by its name in models.toml, or the default one.

    model: a GGUF file, a name, NAME:QUANT or hf.co/ORG/NAME:QUANT; None is the default model.
    ctx: tokens of context for all sequences, "auto" (to fit the requests, see `LLM.fit`), "largest"
        (as memory allows) or None: `default_ctx`, at most what the model was trained for.
    default_ctx: tokens of context if `ctx` is None; default 16384.
    parallel: the most sequences that run at once, default 1; "auto" finds the best while they run.
    threads: CPU threads; None is one per physical core.
    gpu_layers: layers on the graphics cards; -1 (the default) is all, "auto" as many as fit.
    cpu_moe: number of layers, from the first, whose routed experts stay in RAM; None is none.
    tensor_split: shares of the layers, one per card; None or "auto" chooses them.
    kv_type: type of the KV cache: "f16" (the default), "q8_0", "q4_0", or "auto" to choose one.
    experts: routed experts that each token passes; None is as many as the file says.
    force: load the model even if it does not seem to fit; default False.
    elastic: make contexts to fit requests, within `ctx` and `parallel`; default False.
    deterministic: one request at a time, whose text never depends on earlier ones; default False.
    store: allow prefixes to be kept on disk (`LLM.recall`, `LLM.remember`); default False.
    store_limit: bytes on disk for the stored prefixes of all models; None is a fifth of the disk.
    on_progress: called with the share loaded so far, 0 to 1; an exception from it ends the load.
    on_convert: called with the output path if the demo model has to be converted first.
    on_note: called with one line about choices made, or about problems that are not errors.

    Raises ModelNotFoundError or ModelLoadError with a line that says what to do, and UsageError
    for a `ctx` longer than the model was trained for, for graphics cards that are not there, or for
    `experts` that the model does not have.
    """
    options = LoadOptions(
        ctx=ctx,
        default_ctx=default_ctx,
        parallel=parallel,
        threads=threads,
        gpu_layers=gpu_layers,
        cpu_moe=cpu_moe,
        tensor_split=tensor_split,
        kv_type=kv_type,
        experts=experts,
        force=force,
        elastic=elastic,
        deterministic=deterministic,
        store=store,
        store_limit=store_limit,
    )
    file = find_model(None if model is None else str(model), on_convert=on_convert)
    return load_file(file, options, on_progress=on_progress, on_note=on_note)


def find_model(model: str | None, *, on_convert: Callable[[Path], None] | None = None) -> ModelFile:
    """Return the model file that a name or a path stands for. Raises ModelNotFoundError."""
    return ModelFile(locate(model, on_convert=on_convert))


def load_file(
    file: ModelFile,
    options: LoadOptions,
    *,
    on_progress: Callable[[float], None] | None = None,
    on_note: Note = lambda text: None,
) -> LLM:
    """Load a model file; `load` documents the callbacks and the exceptions."""
    mark_used(file.path)
    file = _as_asked(file, options)
    decision = decide(file, options)
    no_cards = line_without_cards(options)
    for line in (outcome().warning, no_cards, decision.context_line, decision.line):
        if line:
            on_note(line)
    with ExitStack() as opened:
        weights = LlamaModel(
            file.path,
            n_gpu_layers=decision.gpu_layers,
            cpu_moe=decision.cpu_moe,
            tensor_split=decision.split,
            repack=decision.repack,
            overrides=file.overrides,
            on_progress=on_progress,
            vocabulary=file.vocabulary,
        )
        opened.callback(weights.close)
        llm = LLM(
            file.name,
            weights,
            contexts_of(weights, options, decision, opened),
            file=file,
            options=options,
            decision=decision,
            sampling=file.sampling(weights),
            on_note=on_note,
        )
        llm.on_close = opened.pop_all().close
        return llm


def load_vocabulary(
    file: ModelFile, options: LoadOptions, *, on_note: Note = lambda text: None
) -> LLM:
    """Load a model without its weights. It can encode prompts and tell what would fit, no more.

    Its `limits` are the sizes its contexts could have; its `decision` is how it would be loaded.
    """
    file = _as_asked(file, options)
    decision = decide(file, options.but(force=True))
    if decision.context_line:
        on_note(decision.context_line)
    weights = LlamaModel(file.path, vocab_only=True, vocabulary=file.vocabulary)
    limits = limits_of(weights, options.ctx or DEFAULT_N_CTX, options, decision.kv_type)
    return LLM(
        file.name,
        weights,
        Contexts(lambda size: VocabularyBackend(limits.longest), limits),
        file=file,
        options=options,
        decision=decision,
        sampling=file.sampling(weights),
        on_close=weights.close,
    )


def _as_asked(file: ModelFile, options: LoadOptions) -> ModelFile:
    """Return the file with as many experts per token as asked for; UsageError if it has none."""
    if options.expert_counts:
        file.require_experts("--expert-counts")
    return file.with_experts(options.experts)
