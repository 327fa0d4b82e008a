"""The models that `l4 serve` loads: which ones, whether they fit together, and how large."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import typer

from l4cli import console
from l4cli.amounts import tokens
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.engine.embedding import Pooling
    from l4cli.loading.embedder import Embedder
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions

_LONGEST = (16384, 8192, 4096)  # tokens of a request without --ctx: the most that few slots allow
_FEW = 8  # slots
# An automatic context takes 2 GiB, or one part in four of the weights, but never more than
# `limits` allow.
_KV_BYTES, _KV_PART = 2 << 30, 4


def names(
    context: typer.Context,
    named: list[str] | None,
    model: list[str] | None,
    embed: list[str] | None,
) -> list[str | None]:
    """Return the models that write text; None stands for the default one.

    With --embed, a default model that nobody asked for is not loaded.

    named: models that stand alone in the command. model: those of --model.
    """
    source = context.get_parameter_source("model")
    is_typed = source is not None and source.name == "COMMANDLINE"
    typed = [*(named or []), *(model or [] if is_typed else [])]
    if typed or embed:
        return [*typed]
    return list(model or []) or [None]


def find(chosen: Sequence[str | None], *, yes: bool) -> list[ModelFile]:
    """Return the file of each model; UsageError if two have the same name."""
    from l4cli.commands.open_model import find_file

    files = [find_file(name, yes=yes) for name in chosen]
    _refuse_same_names(files)
    return files


def plan(
    files: Sequence[ModelFile], loading: LoadOptions, parallel: str | int, ctx: int | None
) -> Iterator[tuple[ModelFile, LoadOptions]]:
    """Yield each file with the options to load it with.

    Nothing is loaded before all are known to fit together.
    """
    if len(files) < 2:
        yield from ((file, loading.but(default_ctx=ctx or loading.default_ctx)) for file in files)
        return
    from l4cli.fit.hardware import probe
    from l4cli.loading.together import planned

    count = parallel if isinstance(parallel, int) and not loading.deterministic else None
    longest = ctx or (_LONGEST[0] if count is None else _LONGEST[-1])
    options = planned(files, loading, probe(), longest=longest, count=count, note=console.warn)
    yield from zip(files, options, strict=True)


def _refuse_same_names(files: Sequence[ModelFile]) -> None:
    """Raise UsageError if clients could not tell two models apart."""
    seen: dict[str, ModelFile] = {}
    for file in files:
        other = seen.setdefault(file.name, file)
        if other is file:
            continue
        if other.path == file.path:
            raise UsageError(f"--model {file.name} is given twice")
        raise UsageError(
            f"--model: {other.path} and {file.path} have the same name {file.name}, by which "
            "clients choose: rename one, or name it with l4 models alias"
        )


def open_one(
    opened: ExitStack, file: ModelFile, loading: LoadOptions, parallel: str | int, ctx: int | None
) -> LLM:
    """Load a model, with a context for as many requests as run at once; `opened` closes it."""
    from l4cli.commands.open_model import open_model
    from l4cli.engine.llamacpp import max_useful_sequences

    most = max_useful_sequences() if isinstance(parallel, str) else parallel
    llm = opened.enter_context(open_model(file, loading.but(parallel=most)))
    llm.provide(*_size(llm, ctx, most, is_exact=not isinstance(parallel, str)))
    return llm


def open_embedder(
    opened: ExitStack,
    name: str,
    loading: LoadOptions,
    longest: int | None,
    pooling: str | None,
    *,
    yes: bool,
) -> Embedder:
    """Load a model that makes embeddings; `opened` closes it."""
    from l4cli.commands import open_model
    from l4cli.loading.embedder_options import EmbedderOptions

    options = EmbedderOptions(
        longest=longest,
        pooling=cast("Pooling | None", pooling),
        threads=loading.threads,
        gpu_layers=loading.gpu_layers,
        force=loading.force,
        alone=loading.deterministic,
    )
    return opened.enter_context(open_model.open_embedder(name, options, yes=yes))


def _size(llm: LLM, ctx: int | None, most: int, *, is_exact: bool) -> tuple[int, int]:
    """Return how many tokens a request may have, and how many requests may run at once.

    is_exact: whether `most` is the number that the user wants.
    """
    from l4cli.engine.sizing import KV_PART
    from l4cli.native.memory import memory_bytes

    if llm.is_deterministic:
        most = 1
    limits = llm.limits
    if ctx is not None and ctx > limits.longest:
        is_trained = limits.n_ctx_seq <= limits.n_cells
        why = "the model was trained for" if is_trained else "this machine's memory has room for"
        raise UsageError(f"--ctx {tokens(ctx)}: {why} {tokens(limits.longest)} tokens")
    cells = limits.n_cells
    if not is_exact:
        weights = llm.file.n_bytes if llm.file else 0
        wanted, room = max(_KV_BYTES, weights // _KV_PART), llm.options.room
        most_bytes = room.kv_bytes if room else memory_bytes() // KV_PART
        cells = int(cells * min(1.0, wanted / most_bytes))
    # Prompts go to disk and back by way of a context of one request (llamacpp/region_states.py).
    spare = 1 if llm.options.store and most > 1 and not is_exact else 0
    choices = [ctx] if ctx else [min(length, limits.longest) for length in _LONGEST]
    for longest in choices:
        count = min(most, cells // longest - spare)
        if count >= min(most, _FEW):
            return longest, count
    count = max(1, min(most, cells // longest - spare))
    if is_exact and count < most:
        raise UsageError(
            f"--parallel {most}: memory has room for {count} requests of {tokens(longest)} tokens; "
            "lower --ctx or --parallel"
        )
    return longest, count
