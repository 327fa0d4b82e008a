"""`l4 serve`: the engine behind an HTTP API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

import typer

from l4cli import console
from l4cli.amounts import tokens
from l4cli.commands import options
from l4cli.commands import serve_options as own
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.engine.embedding import Pooling
    from l4cli.loading.embedder import Embedder
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions

_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_LONGEST = (16384, 8192, 4096)  # tokens of a request without --ctx: the most that few slots allow
_FEW = 8  # slots
# An automatic context takes 2 GiB, or one part in four of the weights, but never more than
# `limits` allow.
_KV_BYTES, _KV_PART = 2 << 30, 4


def serve(
    context: typer.Context,
    model: own.Models = None,
    embed: own.Embed = None,
    embed_pooling: own.EmbedPooling = None,
    host: own.Host = "127.0.0.1",
    port: own.Port = 8080,
    api_key: own.ApiKey = None,
    allow_origin: own.AllowOrigin = None,
    queue: own.Queue = 256,
    timeout: own.Timeout = None,
    lenient: own.Lenient = False,
    yes: options.Yes = False,
    parallel: own.Parallel = "auto",
    ctx: own.Ctx = None,
    embed_ctx: own.EmbedCtx = None,
    deterministic: own.Deterministic = False,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    store_limit: options.StoreLimit = None,
    force: options.Force = False,
) -> None:
    """Serve a model to other programs, over OpenAI's API, and to a browser.

    The model is loaded once. Requests of all clients are computed together,
    and prompts that begin alike are computed once. A prompt that does not fit
    is refused with its number of tokens; nothing is ever cut. --embed serves
    a model that makes embeddings, beside the others or alone.

    The first Ctrl-C lets running requests finish, the second stops them.
    """
    try:
        from l4cli.serve.app import Access
        from l4cli.serve.limits import AskingLimits
        from l4cli.serve.serving import ServeOptions, address_of, bind
        from l4cli.serve.serving import serve as serve_until_stopped
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"l4 serve needs the package {missing.name}: pip install 'l4[serve]'"
        ) from None
    key = options.read_text_option(api_key)
    key = key.strip() if key is not None else None
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise UsageError("--api-key must have printable ASCII characters, and at least one")
    if host not in _LOOPBACK and key is None:
        raise UsageError(
            f"--host {host} is open to other machines: give an --api-key, which they must send"
        )
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, store_limit
    ).but(ctx="auto", elastic=True, deterministic=deterministic, interactive=True, store=True)
    bound = bind(host, port)
    with bound, ExitStack() as opened:
        llms = [
            _open(opened, file, one, parallel, ctx)
            for file, one in _plan(_names(context, model, embed), loading, parallel, ctx, yes=yes)
        ]
        embedders = [
            _open_embedder(opened, name, loading, embed_ctx, embed_pooling, yes=yes)
            for name in embed or []
        ]
        address = address_of(bound)
        for llm in llms:
            backend = llm.engine.backend
            console.note(
                f"{llm.name}: {backend.n_seq_max} requests at once, each of up to "
                f"{tokens(backend.n_ctx_seq)} tokens"
            )
        for embedder in embedders:
            console.note(
                f"{embedder.name}: embeddings of {embedder.n_embd:,} numbers ({embedder.pooling}), "
                f"of texts of up to {tokens(embedder.longest)} tokens"
            )
        page = f"http://{address} is the page, " if llms else ""
        console.note(f"{page}http://{address}/v1 {'' if llms else 'is '}the API; Ctrl-C stops it")
        exit_code = serve_until_stopped(
            llms,
            embedders,
            bound,
            ServeOptions(
                access=Access(key, [host], allow_origin or []),
                limits=AskingLimits(queue, timeout),
                lenient=lenient,
            ),
            console.note,
        )
    raise typer.Exit(exit_code)


def _names(
    context: typer.Context, model: list[str] | None, embed: list[str] | None
) -> list[str | None]:
    """Return the models that write text; None stands for the default one.

    With --embed, a default model that nobody asked for is not loaded.
    """
    source = context.get_parameter_source("model")
    is_typed = source is not None and source.name == "COMMANDLINE"
    if embed and not is_typed:
        return []
    return list(model or []) or [None]


def _plan(
    names: Sequence[str | None],
    loading: LoadOptions,
    parallel: str | int,
    ctx: int | None,
    *,
    yes: bool,
) -> Iterator[tuple[ModelFile, LoadOptions]]:
    """Yield the file of each model, with the options to load it with.

    Nothing is loaded before all are known to fit together; UsageError if two have the same name.
    """
    from l4cli.commands.open_model import find_file

    files = [find_file(name, yes=yes) for name in names]
    _refuse_same_names(files)
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


def _open(
    opened: ExitStack, file: ModelFile, loading: LoadOptions, parallel: str | int, ctx: int | None
) -> LLM:
    """Load a model, with a context for as many requests as run at once; `opened` closes it."""
    from l4cli.commands.open_model import open_model
    from l4cli.engine.llamacpp import max_useful_sequences

    most = max_useful_sequences() if isinstance(parallel, str) else parallel
    llm = opened.enter_context(open_model(file, loading.but(parallel=most)))
    llm.provide(*_size(llm, ctx, most, is_exact=not isinstance(parallel, str)))
    return llm


def _open_embedder(
    opened: ExitStack,
    name: str,
    loading: LoadOptions,
    longest: int | None,
    pooling: str | None,
    *,
    yes: bool,
) -> Embedder:
    """Load a model that makes embeddings; `opened` closes it."""
    from l4cli.commands.open_model import open_embedder
    from l4cli.loading.embedder_options import EmbedderOptions

    options = EmbedderOptions(
        longest=longest,
        pooling=cast("Pooling | None", pooling),
        threads=loading.threads,
        gpu_layers=loading.gpu_layers,
        force=loading.force,
        alone=loading.deterministic,
    )
    return opened.enter_context(open_embedder(name, options, yes=yes))


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
        raise UsageError(
            f"--ctx {tokens(ctx)}: the model, or this machine's memory, has room for "
            f"{tokens(limits.longest)} tokens"
        )
    cells = limits.n_cells
    if not is_exact:
        weights = llm.file.n_bytes if llm.file else 0
        wanted, room = max(_KV_BYTES, weights // _KV_PART), llm.options.room
        most_bytes = room.kv_bytes if room else memory_bytes() // KV_PART
        cells = int(cells * min(1.0, wanted / most_bytes))
    choices = [ctx] if ctx else [min(length, limits.longest) for length in _LONGEST]
    for longest in choices:
        count = min(most, cells // longest)
        if count >= min(most, _FEW):
            return longest, count
    count = max(1, min(most, cells // longest))
    if is_exact and count < most:
        raise UsageError(
            f"--parallel {most}: memory has room for {count} requests of {tokens(longest)} tokens; "
            "lower --ctx or --parallel"
        )
    return longest, count
