"""`l4 docs`: which documents have been read and kept, ready for questions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import options
from l4cli.errors import EXIT_FAILED, EXIT_OK, InputError, UsageError

if TYPE_CHECKING:
    from l4cli.store.catalogue import Entry

docs = typer.Typer(
    help="List the documents that have been read and are kept for `l4 ask`; add and remove them.",
    no_args_is_help=True,
)


@docs.command("list")
def list_documents(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List what has been read, last used first."""
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    entries = catalogue.entries(store_root())
    if json:
        console.data_json([_as_json(entry) for entry in entries])
        return
    console.table(
        ["DOCUMENT", "TOKENS", "SIZE", "MODEL", "USED"],
        [
            [
                ", ".join(entry.document.names),
                f"{entry.document.num_tokens:,}{_left(entry)}",
                console.human_size(entry.n_bytes),
                entry.document.model,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
            ]
            for entry in entries
        ],
    )
    count, n_bytes = catalogue.others(store_root())
    if count:
        console.note(
            f"and {console.human_size(n_bytes)} of conversations and of what they replaced"
        )


@docs.command("add")
def add_documents(
    documents: Annotated[
        list[str],
        typer.Argument(metavar="DOC...", help="Files, folders, patterns, or - for stdin."),
    ],
    model: options.Model = None,
    system: options.System = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
    store_limit: options.StoreLimit = None,
) -> None:
    """Read documents now, each by itself, so that questions need not wait.

    Model, system message and KV type must be those that the questions will have.
    """
    from l4cli.ask.session import AskSession
    from l4cli.commands import ask_prepare as prepare
    from l4cli.commands.open_model import open_model, open_vocabulary, read_text_option
    from l4cli.documents.prompt import DocumentPrompt

    texts, num_failed = prepare.read_documents(documents)
    system = read_text_option(system)
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, store_limit
    )
    with open_vocabulary(model, loading.but(ctx="auto")) as vocabulary:
        prompts = [DocumentPrompt(vocabulary.encoder, [text], system=system) for text in texts]
        longest = max(prompts, key=lambda prompt: len(prompt.prefix))
        told = prepare.preflight_of(vocabulary, longest, [], 1)
        told.check()
        kv_type = vocabulary.conditions.kv_type
        loading = loading.but(ctx=told.spec.n_ctx, parallel=2, kv_type=kv_type, store=True)
    with open_model(vocabulary.file, loading) as llm:
        for prompt in prompts:
            session = AskSession(llm, prompt, {}, llm.conditions)
            if code := prepare.read(session):
                raise typer.Exit(code)
            assert session.reading is not None
            console.note(
                f"{prompt.documents[0].name}: {len(prompt.prefix):,} tokens, "
                + ("kept" if session.reading.num_bytes_saved else "nothing new")
            )
    raise typer.Exit(EXIT_FAILED if num_failed else EXIT_OK)


@docs.command("rm")
def remove_documents(
    names: Annotated[
        list[str], typer.Argument(metavar="DOC...", help="Names as `l4 docs list` shows them.")
    ],
) -> None:
    """Remove what was kept of documents; the documents themselves stay."""
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    root = store_root()
    entries = catalogue.entries(root)
    for name in names:
        if not any(name in entry.document.names for entry in entries):
            raise InputError(f"{name}: nothing is kept of it; `l4 docs list` shows what there is")
    chosen = [entry for entry in entries if set(names) & set(entry.document.names)]
    freed = sum(catalogue.remove(root, entry) for entry in chosen)
    console.note(f"{console.human_size(freed)} freed")


@docs.command("prune")
def prune_store(
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="SIZE",
            parser=options.parse_size,
            help="Remove what was used longest ago until all takes this much, as 20G.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
) -> None:
    """Make room: remove what was used longest ago, conversations' states included.

    The store keeps itself within a fifth of the disk, or within what the
    option --store-limit of `l4 ask`, `run`, `chat` and `docs add` says, as 20G.
    L4_STORE_LIMIT in the environment holds for all of them; in config.toml it
    is store-limit, in the tables ask, run, chat and docs.add.
    """
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    if (limit is None) == (not everything):
        raise UsageError("give --limit SIZE, such as 20G, or --all")
    freed = catalogue.prune(store_root(), 0 if everything else limit or 0)
    console.note(f"{console.human_size(freed)} freed")


def _left(entry: Entry) -> str:
    stored, total = entry.num_stored_tokens, entry.document.num_tokens
    return "" if stored >= total else f" ({stored:,} of them left)"


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "documents": list(entry.document.names),
        "model": entry.document.model,
        "tokens": entry.document.num_tokens,
        "tokens_stored": entry.num_stored_tokens,
        "n_bytes": entry.n_bytes,
        "used": entry.used,
    }
