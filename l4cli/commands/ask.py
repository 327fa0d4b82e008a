"""`l4 ask`: answers questions about whole documents."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import ask_arguments as arguments
from l4cli.commands import ask_prepare as prepare
from l4cli.commands import ask_show as show
from l4cli.commands import options, stopped
from l4cli.commands import sampling_options as sampler
from l4cli.commands import template_options as templates
from l4cli.commands.find_gguf import refuse_unknown
from l4cli.errors import EXIT_FAILED, EXIT_OK, UsageError
from l4cli.native import watcher

if TYPE_CHECKING:
    from l4cli.ask.session import AskSession
    from l4cli.documents import Document
    from l4cli.loading.file import ModelFile
    from l4cli.loading.options import LoadOptions

_DEFAULT_MAX_TOKENS = 1024


def ask(
    context: typer.Context,
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DOC...",
            help="Documents: files, folders or glob patterns (text, PDF, DOCX, HTML …); - reads "
            "stdin. What is plainly no file is a question.",
            show_default=False,
        ),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(
            "--question", "-q", metavar="TEXT", help="Question to answer; may be repeated."
        ),
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            "--questions", metavar="FILE", help="Read questions from a file, one per line."
        ),
    ] = None,
    quote: Annotated[
        bool,
        typer.Option(
            "--quote",
            help="End each answer with word-for-word quotations from the documents, each with its "
            "file, page and line.",
        ),
    ] = False,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help="Read documents that are longer than the context in parts: take notes on each "
            "part, then answer from the notes.",
        ),
    ] = False,
    no_gitignore: options.NoGitignore = False,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache",
            help="Read the documents again even if they are stored, and do not store them.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the tokens, memory and time needed; read and answer nothing."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")] = False,
    no_markdown: Annotated[
        bool,
        typer.Option(
            "--no-markdown", help="Show answers as plain text, without rendering Markdown."
        ),
    ] = False,
    template: templates.Name = None,
    variable: templates.Variables = None,
    model: options.Model = None,
    yes: options.Yes = False,
    experts: options.Experts = None,
    system: options.System = None,
    max_tokens: sampler.MaxTokens = None,
    temperature: sampler.Temperature = None,
    top_p: sampler.TopP = None,
    top_k: sampler.TopK = None,
    min_p: sampler.MinP = None,
    seed: sampler.Seed = None,
    schema: sampler.Schema = None,
    threads: options.ThreadsByName = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    store_limit: options.StoreLimit = None,
    force: options.Force = False,
) -> None:
    """Answer questions about whole documents.

    The documents are read into the context once, and the result is stored on
    disk: the next question, today or next week, starts at once. `l4 docs`
    lists the stored documents.

        l4 ask manual.pdf "How is the pump primed?" "How is it drained?"

    Without a question, in a terminal, you type one question after another;
    Ctrl-D leaves. What is piped in is the document if none is named, else the
    question:

        cat report.txt | l4 ask "What was decided?"

    With -t, a template asks: `l4 chat --save-template` keeps one.

    Exit code: 0 if everything was answered, 1 if a document could not be read
    or an answer failed, 2 if nothing could be asked.
    """
    chosen = templates.choose(context, template, variable)
    model = chosen.over("model", model)
    given = [*(question or []), *(arguments.read_questions(questions) if questions else [])]
    meant = arguments.sort_out(
        documents or [],
        given,
        is_piped=arguments.is_piped(),
        asks_anyway=chosen.filled.asks_alone,
    )
    asked = list(meant.questions)
    if not all(text.strip() for text in asked):
        raise UsageError("a question is empty")
    arguments.tell_about_stdin(meant, documents or [])
    if meant.stdin == "question" and not dry_run:
        asked = [arguments.read_piped_question()]
    asked = chosen.questions(asked)
    if not asked and not dry_run and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("no question: give one with -q, or a file of questions with --questions")
    if split and not asked:
        raise UsageError("--split needs a question before it reads: give it with -q")
    if chosen.filled.template.tools:
        console.note(f"(template {template} has tools, which `l4 ask` does not use)")
    schema = chosen.over("schema", schema)
    constraint = prepare.constraint_of(schema)
    refuse_unknown(model)
    texts, num_failed = prepare.read_documents(meant.documents, use_gitignore=not no_gitignore)
    sampling = chosen.sampling(sampler.given(max_tokens, temperature, top_p, top_k, min_p, seed))
    max_tokens = sampling["max_tokens"] = sampling["max_tokens"] or _DEFAULT_MAX_TOKENS
    if constraint:
        sampling["constraint"] = constraint
    loading = options.loading(
        threads,
        gpu_layers,
        cpu_moe,
        tensor_split,
        kv_type,
        force,
        store_limit,
        experts=experts,
    )
    system = chosen.system(system)

    from l4cli.ask.quoting import MAX_QUOTE_TOKENS, asking
    from l4cli.ask.session import AskSession
    from l4cli.commands.open_model import find_file, open_model, open_vocabulary
    from l4cli.documents.prompt import DocumentPrompt

    file = find_file(model, yes=yes)
    how = show.Show(json, has_schema=bool(schema), markdown=not no_markdown)
    if split:
        answering = {"sampling": sampling, "system": system, "quotes": quote}
        handle = _split_dry_run if dry_run else _split
        elastic = loading.but(ctx="auto", parallel="auto")
        code = handle(texts, asked, file, answering, how, elastic)
        raise typer.Exit(code or (EXIT_FAILED if num_failed else EXIT_OK))
    with open_vocabulary(file, loading.but(ctx="auto")) as vocabulary:
        prompt = DocumentPrompt(vocabulary.encoder, texts, system=system)
        phrased = [asking(text) if quote else text for text in asked]
        room = max_tokens + (MAX_QUOTE_TOKENS if quote else 0)
        told = prepare.preflight_of(vocabulary, prompt, phrased, room)
        if dry_run:
            show.report(told, texts, json)
            raise typer.Exit(EXIT_OK if told.fits and not num_failed else EXIT_FAILED)
        told.check()
        prepare.warn(told)
        loading = loading.but(
            ctx=told.spec.n_ctx,
            parallel=told.num_branches + 1,
            kv_type=vocabulary.conditions.kv_type,
            store=True,
        )
    with open_model(vocabulary.file, loading) as llm:
        prompt.encoder = llm.encoder
        session = AskSession(llm, prompt, sampling, llm.conditions, not no_cache, quote)
        code = prepare.read(session) or (
            show.answers(session, asked, how) if asked else _loop(session, how)
        )
    raise typer.Exit(code or (EXIT_FAILED if num_failed else EXIT_OK))


def _split(
    texts: Sequence[Document],
    asked: Sequence[str],
    file: ModelFile,
    answering: Mapping[str, Any],
    how: show.Show,
    loading: LoadOptions,
) -> int:
    """Take notes on the parts, answer from them, and return the exit code.

    answering: further arguments of SplitSession.
    """
    from l4cli import speeds
    from l4cli.ask.completions import StoppedEarly
    from l4cli.ask.split_preflight import summary
    from l4cli.ask.split_session import SplitSession
    from l4cli.commands.open_model import open_model

    with open_model(file, loading) as llm:
        watcher.tell(
            "the notes on the parts that were read are saved",
            f"go on with: {console.command_line()}",
        )
        session = SplitSession(llm, texts, **answering)
        demand = session.demand(asked)
        measured = speeds.recall(llm.conditions)
        at_once = demand.num_note_calls
        console.warn(summary(demand, demand.seconds(measured, at_once)))
        try:
            with console.part_progress("reading in parts", demand.num_note_calls) as update:
                session.read(asked, lambda far: update(far.num_done + far.in_work))
        except StoppedEarly:
            console.warn(stopped.while_taking_notes(session.progress, len(asked)))
            return session.exit_code
        return show.answers(session, asked, how)


def _split_dry_run(
    texts: Sequence[Document],
    asked: Sequence[str],
    file: ModelFile,
    answering: Mapping[str, Any],
    how: show.Show,
    loading: LoadOptions,
) -> int:
    """Show what --split would take, without loading weights; return the exit code."""
    from l4cli import speeds
    from l4cli.ask.split_preflight import split_preflight
    from l4cli.ask.split_session import SplitSession
    from l4cli.commands.open_model import open_vocabulary
    from l4cli.engine.sizing import choose_size
    from l4cli.fit.hardware import probe

    with open_vocabulary(file, loading) as llm:
        assert llm.file is not None
        demand = SplitSession(llm, texts, **answering).demand(asked)
        where = llm.conditions
        told = split_preflight(
            demand,
            choose_size(demand.context, llm.limits),
            llm.file.shape,
            probe(),
            kv_type=where.kv_type,
            gpu_layers=where.n_gpu_layers,
            measured=speeds.recall(where),
        )
    show.split_report(told, texts, how.json)
    return EXIT_OK if told.fits else EXIT_FAILED


def _loop(session: AskSession, how: show.Show) -> int:
    """Answer questions typed in the terminal; return the exit code."""
    from l4cli.ask.loop import ask_loop

    console.note(
        f"{session.llm.name} has read {len(session.prompt.prefix):,} tokens; "
        "Ctrl-D leaves, /help tells more"
    )
    return ask_loop(lambda question: show.answers(session, [question], how))
