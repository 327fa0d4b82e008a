"""Loads an embedding model from a name or a path."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from l4cli.engine.embedding import Pooling
from l4cli.engine.llamacpp import EmbeddingContext, LlamaModel
from l4cli.engine.llamacpp.devices import devices
from l4cli.fit.hardware import KEPT_GPU, KEPT_RAM
from l4cli.loading.decide import check_cards, line_without_cards
from l4cli.loading.embedder import Embedder
from l4cli.loading.embedder_options import (
    EmbedderOptions,
    EmbedderSizes,
    batch_of,
    longest_of,
    pooling_of,
)
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.models.installed import mark_used
from l4cli.models.locate import locate
from l4cli.native.memory import free_memory_bytes
from l4cli.native.selftest import outcome

Note = Callable[[str], None]
_N_SEQ_MAX = 64  # inputs that are computed together


def load_embedder(
    model: str | Path,
    *,
    longest: int | None = None,
    pooling: Pooling | None = None,
    threads: int | None = None,
    gpu_layers: int | str = -1,
    force: bool = False,
    alone: bool = False,
    on_progress: Callable[[float], None] | None = None,
    on_note: Note = lambda text: None,
) -> Embedder:
    """Load an embedding model by path or by name.

    model: a GGUF file, a name, NAME:QUANT or hf.co/ORG/NAME:QUANT.
    longest: most tokens of an input; None is what the model was trained for, at most 8192 and what
        fits in memory.
    pooling: "mean", "cls" or "last"; None is what the GGUF states.
    threads: CPU threads; None is one per physical core.
    gpu_layers: layers on the graphics cards; -1 (the default) is all, "auto" is all or none.
    force: load the model even if it does not seem to fit; default False.
    alone: compute each input by itself: its embedding then never depends, in its last digits, on
        the inputs beside it; default False.
    on_progress: called with the share loaded so far, 0 to 1; an exception from it ends the load.
    on_note: called with one line about problems that are not errors.

    Raises ModelNotFoundError or ModelLoadError with a line that says what to do, and UsageError
    for a `longest` beyond what the model was trained for, or for graphics cards that are not there.
    """
    options = EmbedderOptions(
        longest=longest,
        pooling=pooling,
        threads=threads,
        gpu_layers=gpu_layers,
        force=force,
        alone=alone,
    )
    file = ModelFile(locate(str(model)), embeds=True)
    return load_embedder_file(file, options, on_progress=on_progress, on_note=on_note)


def load_embedder_file(
    file: ModelFile,
    options: EmbedderOptions,
    *,
    on_progress: Callable[[float], None] | None = None,
    on_note: Note = lambda text: None,
) -> Embedder:
    """Load a model file that was opened with `embeds`; `load_embedder` says what it raises."""
    mark_used(file.path)
    layers = options.gpu_layers if isinstance(options.gpu_layers, int) else None
    wanted = LoadOptions(gpu_layers="auto" if layers is None else layers)
    check_cards(wanted)
    fields = file.header.fields
    pooling = pooling_of(file.name, fields, options.pooling)
    sizes = EmbedderSizes.of(fields, file.n_bytes)
    free, is_on_card = _free_bytes(sizes.n_bytes, layers)
    longest = longest_of(file.name, sizes, options.longest, None if options.force else free)
    for line in (outcome().warning, line_without_cards(wanted)):
        if line:
            on_note(line)
    with ExitStack() as opened:
        weights = LlamaModel(
            file.path,
            n_gpu_layers=layers if layers is not None else (-1 if is_on_card else 0),
            repack=outcome().extra_buffers,
            on_progress=on_progress,
            vocabulary=file.vocabulary,
        )
        opened.callback(weights.close)
        context = EmbeddingContext(
            weights,
            longest=longest,
            n_batch=batch_of(longest),
            n_seq_max=_N_SEQ_MAX,
            pooling=pooling,
            n_threads=options.threads,
        )
        opened.callback(context.close)
        embedder = Embedder(file, weights, context, alone=options.alone)
        embedder.on_close(opened.pop_all().close)
        return embedder


def _free_bytes(n_bytes: int, layers: int | None) -> tuple[int, bool]:
    """The memory that is left for inputs once `n_bytes` of weights are loaded, and where.

    layers: how many are to be on the graphics cards; None: all if they fit, else none.
    """
    in_ram = free_memory_bytes() - KEPT_RAM - n_bytes
    cards = devices() if layers != 0 else []
    if not cards:
        return in_ram, False
    on_cards = sum(card.free - KEPT_GPU for card in cards) - n_bytes
    if layers is None and on_cards < 0:
        return in_ram, False
    return on_cards, True
