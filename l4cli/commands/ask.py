"""`l4 ask`: questions about whole documents."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.commands import ask_show as show
from l4cli.commands import options
from l4cli.errors import EXIT_FAILED, EXIT_OK, InputError, UsageError

if TYPE_CHECKING:
    from l4cli.ask.preflight import Preflight
    from l4cli.ask.prompt import DocumentPrompt
    from l4cli.ask.session import AskSession
    from l4cli.documents import Document
    from l4cli.llm import LLM
    from l4cli.speeds import Conditions

_DEFAULT_MAX_TOKENS = 1024
_TYPED_QUESTION = 512  # tokens that are kept free for one typed in a terminal


def ask(
    documents: Annotated[
        list[str],
        typer.Argument(
            metavar="DOC...", help="Files, folders, patterns, or - for stdin; PDF, text, HTML …"
        ),
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", metavar="TEXT", help="A question; may be repeated."),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option("--questions", metavar="FILE", help="Questions from a file, one a line."),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Neither use nor keep what was read of the documents."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what reading takes, and stop there.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")] = False,
    model: options.Model = None,
    system: options.System = None,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    seed: options.Seed = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    kv_type: options.KvType = "f16",
) -> None:
    """Ask about whole documents.

    They are read into the context once. What was read is kept on disk, so that
    the next question, today or next week, begins at once; `l4 docs` lists it.

        l4 ask manual.pdf -q "How is the pump primed?"

    Without a question, in a terminal, asks for one after another; Ctrl-D leaves.

    Exit code: 0 all was answered, 1 a document could not be read or an answer
    failed, 2 nothing could be asked.
    """
    from l4cli.ask.prompt import DocumentPrompt
    from l4cli.ask.session import AskSession
    from l4cli.commands.loading import conditions, load_for_command, read_text_option

    sources, asked = _arguments(documents, question or [], questions)
    if not asked and not dry_run and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("no question: give one with -q, or a file of them with --questions")
    texts, num_failed = _ingest(sources)
    max_tokens = max_tokens or _DEFAULT_MAX_TOKENS
    sampling = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "seed": seed,
    }
    system = read_text_option(system)
    with _vocabulary(model, kv_type) as vocabulary:
        prompt = DocumentPrompt(vocabulary.encoder, texts, system=system)
        where = conditions(vocabulary, kv_type=kv_type, threads=threads, gpu_layers=gpu_layers)
        told = _preflight(vocabulary, prompt, asked, max_tokens, where)
        if dry_run:
            show.report(told, texts, json)
            raise typer.Exit(EXIT_OK if told.fits and not num_failed else EXIT_FAILED)
        told.check()
        _warn(told)
    with load_for_command(
        model,
        ctx=told.spec.n_ctx,
        parallel=told.num_branches + 1,
        store=True,
        threads=threads,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
    ) as llm:
        prompt.encoder = llm.encoder
        session = AskSession(llm, prompt, sampling, use_store=not no_cache)
        code = _read(session) or (show.answers(session, asked, json) if asked else _loop(session))
    raise typer.Exit(code or (EXIT_FAILED if num_failed else EXIT_OK))


def _arguments(
    documents: list[str], given: list[str], file: Path | None
) -> tuple[list[str], list[str]]:
    """Documents and questions. A last argument that is plainly no file is a question, too."""
    from l4cli.documents.text import read_text

    asked = list(given)
    if file is not None:
        asked += [line.strip() for line in read_text(file).splitlines() if line.strip()]
        if not asked:
            raise InputError(f"{file}: no questions in it")
    if not asked and len(documents) > 1 and _is_question(documents[-1]):
        return documents[:-1], documents[-1:]
    if not all(text.strip() for text in asked):
        raise UsageError("a question is empty")
    return documents, asked


def _is_question(text: str) -> bool:
    """Whether an argument is words: several of them, with no sign of a path or pattern."""
    return bool(re.search(r"\S\s+\S", text)) and not (
        Path(text).expanduser().exists() or re.search(r"[/\\*\[]|\.\w{1,5}$", text)
    )


def _ingest(sources: Sequence[str]) -> tuple[list[Document], int]:
    """The documents, and how many could not be read; InputError if none could."""
    from l4cli.documents import ingest

    errors: list[InputError] = []
    texts = list(
        ingest(sources, on_error=errors.append, on_note=lambda text: console.note(f"l4: {text}"))
    )
    if not texts and errors:
        *before, last = errors
        for error in before:
            console.note(f"l4: {error}")
        raise last
    for error in errors:
        console.note(f"l4: {error}; the others are read without it")
    if not texts:
        raise InputError(f"{', '.join(sources)}: no documents")
    return texts, len(errors)


def _vocabulary(model: str | None, kv_type: str) -> LLM:
    from l4cli.commands.loading import load_vocabulary

    llm, _ = load_vocabulary(model, ctx="auto", parallel=1, kv_type=kv_type)
    return llm


def _preflight(
    llm: LLM, prompt: DocumentPrompt, asked: Sequence[str], max_tokens: int, where: Conditions
) -> Preflight:
    from l4cli import speeds
    from l4cli.ask.preflight import Demand, preflight
    from l4cli.fit.hardware import probe
    from l4cli.fit.shape import shape_of_file

    assert llm.path is not None
    lengths = [len(prompt.question(text)) for text in asked] or [_TYPED_QUESTION]
    return preflight(
        Demand(len(prompt.prefix), max(lengths), max_tokens, max(1, len(asked))),
        shape_of_file(llm.path),
        probe(),
        kv_type=where.kv_type,
        gpu_layers=where.n_gpu_layers,
        measured=speeds.recall(where),
        effective=speeds.recall_effective_length(where.model, where.kv_type),
    )


def _warn(told: Preflight) -> None:
    if told.verdict == "from disk":
        console.note("l4: weights are read from disk, for memory is short: this will be slow")
    if told.exceeds_effective and told.effective:
        console.note(
            f"l4: `l4 ctx-test` found this model reliable up to {told.effective.n_tokens:,} "
            f"tokens; these documents have {told.demand.num_document_tokens:,}"
        )


def _read(session: AskSession) -> int:
    """Read the documents behind a bar; the exit code of a signal that ended it."""
    total = len(session.prompt.prefix)
    with console.token_progress("reading", total) as update:
        reading = session.read(update)
    if reading.exit_code:
        kept = " and is kept" if reading.num_bytes_saved else ""
        console.note(
            f"l4: stopped; {reading.num_read_tokens:,} of {total:,} tokens were read{kept}"
        )
    return reading.exit_code


def _loop(session: AskSession) -> int:
    from l4cli.ask.loop import ask_loop

    console.note(
        f"{session.llm.name} has read {len(session.prompt.prefix):,} tokens; Ctrl-D leaves"
    )
    return ask_loop(lambda question: show.answers(session, [question]))
