"""`l4 serve`: the engine behind an HTTP API."""

from __future__ import annotations

from contextlib import ExitStack

import typer

from l4cli import console
from l4cli.amounts import tokens
from l4cli.commands import options, serve_models
from l4cli.commands import serve_options as own
from l4cli.errors import UsageError

_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def serve(
    context: typer.Context,
    named: own.Named = None,
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
    no_cache: own.NoCache = False,
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
        from l4cli.serve.serving import ServeOptions, address_of, bind, check_host
        from l4cli.serve.serving import serve as serve_until_stopped
    except ModuleNotFoundError as missing:
        from l4cli.native.rebuild import extra_line

        raise UsageError(
            f"l4 serve needs the package {missing.name}: {extra_line('serve')}"
        ) from None
    key = options.read_text_option(api_key)
    key = key.strip() if key is not None else None
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise UsageError("--api-key must have printable ASCII characters, and at least one")
    check_host(host)
    if host not in _LOOPBACK and key is None:
        raise UsageError(
            f"--host {host} is open to other machines: give an --api-key, which they must send"
        )
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, store_limit
    ).but(ctx="auto", elastic=True, deterministic=deterministic)
    loading = loading.but(interactive=True, store=not no_cache)
    bound = bind(host, port)
    with bound, ExitStack() as opened:
        files = serve_models.find(serve_models.names(context, named, model, embed), yes=yes)
        # Before the others are planned, which then see the memory that is left.
        embedders = [
            serve_models.open_embedder(opened, name, loading, embed_ctx, embed_pooling, yes=yes)
            for name in embed or []
        ]
        plan = serve_models.plan(files, loading, parallel, ctx)
        llms = [serve_models.open_one(opened, *planned, parallel, ctx) for planned in plan]
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
