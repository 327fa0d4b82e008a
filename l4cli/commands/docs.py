"""`l4 docs`: shows documents as the model reads them; lists, adds and removes the stored ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.amounts import human_size
from l4cli.commands import completion, options
from l4cli.commands.find_gguf import refuse_unknown
from l4cli.commands.group import Command, ListingGroup
from l4cli.errors import EXIT_FAILED, EXIT_OK, InputError, UsageError

if TYPE_CHECKING:
    from l4cli.store.catalogue import Entry

Documents = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="DOC...",
        help="Documents: files, folders or glob patterns; - reads stdin.",
        show_default=False,
    ),
]

docs = typer.Typer(
    help="Show what the model reads of documents; list, add and remove those stored for `l4 ask`.",
    cls=ListingGroup,
)


@docs.command("list", cls=Command)
def list_documents(
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
) -> None:
    """List the stored documents, the most recently used first."""
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    entries = catalogue.entries(store_root())
    if json:
        console.data_json([_as_json(entry) for entry in entries])
        return
    console.table(
        ["DOCUMENT", "TOKENS", "SIZE", "MODEL", "LAST USED"],
        [
            [
                _named(entry),
                f"{entry.document.num_tokens:,}{_left(entry)}",
                human_size(entry.n_bytes),
                entry.document.model,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
            ]
            for entry in entries
        ],
    )
    count, n_bytes = catalogue.others(store_root())
    if count:
        console.note(
            f"the reading cache also holds {human_size(n_bytes)} of chats and older versions; "
            "`l4 docs prune --limit SIZE` frees space"
        )


@docs.command("add", cls=Command)
def add_documents(
    documents: Documents = None,
    no_gitignore: options.NoGitignore = False,
    model: options.Model = None,
    yes: options.Yes = False,
    system: options.System = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
    store_limit: options.StoreLimit = None,
) -> None:
    """Read documents and store them, so that later questions start at once.

    Each document is stored by itself. Use the same model, system message and
    KV type as for the questions.
    """
    from l4cli.commands import ask_prepare as prepare
    from l4cli.commands.ask_arguments import named_or_piped

    refuse_unknown(model)
    sources = named_or_piped(documents)
    system = options.read_text_option(system)
    texts, num_failed = prepare.read_documents(sources, use_gitignore=not no_gitignore)

    from l4cli.ask.session import AskSession
    from l4cli.commands.open_model import open_model, open_vocabulary
    from l4cli.documents.prompt import DocumentPrompt

    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, store_limit
    )
    with open_vocabulary(model, loading.but(ctx="auto"), yes=yes) as vocabulary:
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
                + ("stored" if session.reading.num_bytes_saved else "nothing new to store")
            )
    raise typer.Exit(EXIT_FAILED if num_failed else EXIT_OK)


@docs.command("text", cls=Command)
def show_text(
    documents: Documents = None,
    no_gitignore: options.NoGitignore = False,
    places: Annotated[
        bool,
        typer.Option("--places", help="Mark pages, chapters and headings, and number the lines."),
    ] = False,
) -> None:
    """Print the text that the model reads of documents.

    Without --places this is exactly what `l4 ask` puts into the prompt, down
    to the blank lines. What is left out, such as pictures, is told on stderr.
    """
    from l4cli.commands import ask_prepare as prepare
    from l4cli.commands.ask_arguments import named_or_piped
    from l4cli.documents.document import marked
    from l4cli.documents.prompt import shown

    sources = named_or_piped(documents)
    texts, num_failed = prepare.read_documents(sources, use_gitignore=not no_gitignore)
    for text in map(marked, texts) if places else shown(texts):
        console.data(text, end="")
    raise typer.Exit(EXIT_FAILED if num_failed else EXIT_OK)


@docs.command("rm", cls=Command)
def remove_documents(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="DOC...",
            autocompletion=completion.documents,
            help="Names of documents as `l4 docs list` shows them; any name of a text will do.",
        ),
    ],
) -> None:
    """Remove documents from the reading cache. The documents themselves stay."""
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    root = store_root()
    entries = catalogue.entries(root)
    for name in names:
        if not any(name in entry.names for entry in entries):
            raise InputError(
                f"{name}: this document is not stored; `l4 docs list` shows those that are"
            )
    chosen = [entry for entry in entries if set(names) & set(entry.names)]
    freed = sum(catalogue.remove(root, entry) for entry in chosen)
    for entry in chosen:
        if others := [name for name in entry.names if name not in names]:
            console.note(f"removed with it, as the same text or read together: {', '.join(others)}")
    console.note(f"{human_size(freed)} freed")


@docs.command("prune", cls=Command)
def prune_store(
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="SIZE",
            parser=options.parse_size,
            help="Remove the least recently used until the reading cache takes at most SIZE, "
            "e.g. 20G.",
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
) -> None:
    """Free disk space: remove the least recently used documents and chat states.

    The store limits itself to a fifth of the disk, or to the --store-limit of
    `l4 ask`, `run`, `chat` and `docs add`, e.g. 20G. The environment variable
    L4_STORE_LIMIT sets the limit for all of them. In config.toml it is
    store-limit, in the tables ask, run, chat and docs.add.
    """
    from l4cli.store import catalogue
    from l4cli.store.directory import store_root

    if (limit is None) == (not everything):
        raise UsageError("give --limit SIZE, such as 20G, or --all")
    freed = catalogue.prune(store_root(), 0 if everything else limit or 0)
    console.note(f"{human_size(freed)} freed")


def _named(entry: Entry) -> str:
    """The names of documents that were read together, and others of the same text."""
    also = "; ".join(", ".join(names) for names in entry.also)
    return ", ".join(entry.document.names) + (f" (also read as {also})" if also else "")


def _left(entry: Entry) -> str:
    """How many tokens of a document are still stored, if not all of them."""
    stored, total = entry.num_stored_tokens, entry.document.num_tokens
    return "" if stored >= total else f" ({stored:,} still stored)"


def _as_json(entry: Entry) -> dict[str, Any]:
    return {
        "documents": list(entry.document.names),
        "also": [list(names) for names in entry.also],
        "model": entry.document.model,
        "tokens": entry.document.num_tokens,
        "tokens_stored": entry.num_stored_tokens,
        "n_bytes": entry.n_bytes,
        "used": entry.used,
    }
