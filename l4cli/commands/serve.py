"""`l4 serve`: the engine behind an HTTP API."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from l4cli import console
from l4cli.amounts import tokens
from l4cli.commands import options
from l4cli.commands import serve_options as own
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions

_USUAL = 2048  # tokens of a usual request, which decide how many cells are made for each
_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_N_BATCH = 512  # tokens of prompts in one step, after which every running answer gets a token


def serve(
    model: own.Models = None,
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
    deterministic: own.Deterministic = False,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    store_limit: options.StoreLimit = None,
    force: options.Force = False,
) -> None:
    """Serve a model to other programs, over OpenAI's API.

    The model is loaded once. Requests of all clients are computed together,
    and prompts that begin alike are computed once. A prompt that does not fit
    is refused with its number of tokens; nothing is ever cut.

    The first Ctrl-C lets running requests finish, the second stops them.
    """
    try:
        from l4cli.serve.app import Access
        from l4cli.serve.asking import AskingLimits
        from l4cli.serve.serving import ServeOptions, address_of, bind
        from l4cli.serve.serving import serve as serve_until_stopped
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"l4 serve needs the package {missing.name}: pip install 'l4[serve]'"
        ) from None
    from l4cli.commands.open_model import read_text_option

    key = read_text_option(api_key)
    key = key.strip() if key is not None else None
    if key is not None and not (key and key.isascii() and key.isprintable()):
        raise UsageError("--api-key must have printable ASCII characters, and at least one")
    if host not in _LOOPBACK and key is None:
        raise UsageError(
            f"--host {host} is open to other machines: give an --api-key, which they must send"
        )
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, store_limit
    ).but(ctx="auto", elastic=True, deterministic=deterministic, n_batch=_N_BATCH, store=True)
    bound = bind(host, port)
    with bound, ExitStack() as opened:
        names: list[str | None] = list(model or []) or [None]
        llms = [
            opened.enter_context(_open(name, loading, parallel, ctx, yes=yes)) for name in names
        ]
        address = address_of(bound)
        for llm in llms:
            backend = llm.engine.backend
            console.note(
                f"{llm.name}: {backend.n_seq_max} requests at once, each of up to "
                f"{tokens(backend.n_ctx_seq)} tokens"
            )
        console.note(f"http://{address}/v1 is ready; Ctrl-C stops it")
        exit_code = serve_until_stopped(
            llms,
            bound,
            ServeOptions(
                access=Access(key, [host], allow_origin or []),
                limits=AskingLimits(queue, timeout),
                lenient=lenient,
            ),
            console.note,
        )
    raise typer.Exit(exit_code)


def _open(
    name: str | None, loading: LoadOptions, parallel: str | int, ctx: int | None, *, yes: bool
) -> LLM:
    """Load a model, with a context for as many requests as run at once."""
    from l4cli.commands.open_model import open_model
    from l4cli.engine.llamacpp import max_useful_sequences
    from l4cli.loading.options import DEFAULT_N_CTX

    count = max_useful_sequences() if isinstance(parallel, str) else parallel
    llm = open_model(name, loading.but(parallel=count), yes=yes)
    try:
        longest = llm.limits.longest
        if ctx is not None and ctx > longest:
            raise UsageError(
                f"--ctx {ctx}: the model, or this machine's memory, has room for {longest} tokens"
            )
        llm.provide(ctx or min(DEFAULT_N_CTX, longest), _USUAL)
    except BaseException:
        llm.close()
        raise
    return llm
