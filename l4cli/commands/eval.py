"""`l4 eval`: how well a model predicts a text, what it lost against another, how it answers."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import completion, options
from l4cli.errors import L4Error, UsageError

if TYPE_CHECKING:
    from l4cli.eval.report import Result
    from l4cli.eval.session import Subject
    from l4cli.eval.texts import Text
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions

_LEAST_CTX = 8
_DEFAULT_CTX = 512

Models = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=completion.models,
        metavar="NAME|FILE",
        help="GGUF files, or names from `l4 models` (default: the model that it marks with *).",
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        autocompletion=completion.models,
        metavar="NAME|FILE",
        help="Compare with this model, such as the one that the others were quantized from.",
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option(
        "--text",
        parser=options.parse_file,
        metavar="FILE",
        help="Text to evaluate (default: l4's own of several languages, code, JSON and dialogue).",
    ),
]
Rows = Annotated[
    Path | None,
    typer.Option(
        "--rows",
        parser=options.parse_file,
        metavar="FILE",
        help="JSON Lines to evaluate, one after another: each has text, prompt or messages.",
    ),
]
Task = Annotated[
    Path | None,
    typer.Option(
        "--task",
        parser=options.parse_file,
        metavar="FILE",
        help="Questions in JSON Lines, with choices or an answer: tells the accuracy.",
    ),
]
Ctx = Annotated[
    int | None,
    typer.Option(
        "--ctx",
        parser=options.parse_tokens,
        metavar="N",
        help=f"Tokens of a chunk; its second half is scored (default: {_DEFAULT_CTX}, as "
        "llama-perplexity).",
    ),
]
NumChunks = Annotated[
    int | None,
    typer.Option(
        "--chunks",
        min=1,
        max=10**9,
        metavar="N",
        help="Use only the first N chunks of the text.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, with every figure.")]


def evaluate(
    models: Models = None,
    yes: options.Yes = False,
    against: Against = None,
    text: TextFile = None,
    rows: Rows = None,
    task: Task = None,
    ctx: Ctx = None,
    chunks: NumChunks = None,
    json: Json = False,
    experts: options.Experts = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
) -> None:
    """Measure how well a model predicts a text, and what it lost.

    Tells the perplexity with its error. With --against, both models read the
    text together: KL divergence, changed probabilities, same top token, by
    depth in the context, and the tokens that differ most. No logits are
    stored. The figures are llama-perplexity's. Several models give one table.
    With --task, questions are answered by log-likelihood, as
    lm-evaluation-harness does. Ctrl-C shows what was measured so far.
    """
    if ctx is not None and ctx < _LEAST_CTX:
        raise UsageError(f"--ctx must be at least {_LEAST_CTX}, not {ctx}")
    _refuse_together(text=text, rows=rows, task=task)
    if task and (against or chunks):
        other = "--against" if against else "--chunks"
        raise UsageError(f"{other} is for texts: leave it or --task out")
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, experts=experts
    )
    loading = loading.but(elastic=True)
    # A list has no variable of its own: typer would cut a path with blanks into several.
    asked: list[str | None] = [*models] if models else [os.environ.get("L4_MODEL") or None]

    from l4cli.commands.open_model import find_file

    if task:
        from l4cli.commands.eval_tasks import run_tasks

        run_tasks(asked, task, loading, ctx=ctx, yes=yes, json=json)
        return
    from l4cli.eval import texts

    if text:
        source = texts.read_text_file(text)
    else:
        source = texts.read_rows(rows) if rows else texts.built_in_text()
    files = [find_file(model, yes=yes) for model in asked]
    base_file = find_file(against, yes=yes) if against else None
    run = _Run(source, loading, ctx, chunks)
    for file in [base_file, *files]:
        if file:
            _ = file.header  # tells files that are no language model before anything is loaded
    failure: L4Error | None = None
    try:
        run.all(files, base_file)
    except L4Error as error:
        failure = error  # what was measured before is still shown
    _tell(run, base_file, json=json)
    if failure:
        raise failure
    if run.exit_code:
        console.warn(
            "stopped: only what is shown was measured"
            if run.results
            else "stopped before anything was measured"
        )
        raise typer.Exit(run.exit_code)


def _refuse_together(**given: object) -> None:
    names = [f"--{name}" for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} cannot be given together: choose one")


@dataclass(slots=True)
class _Run:
    """All models of a command, one after another; the reference stays loaded.

    exit_code: that of the signal that ended it; 0 if none did.
    """

    text: Text
    loading: LoadOptions
    n_ctx: int | None
    most_chunks: int | None
    results: list[Result] = field(default_factory=list)
    exit_code: int = 0

    def all(self, files: list[ModelFile], base_file: ModelFile | None) -> None:
        """Fill `results`, in the order of `files`; L4Error if one fails."""
        from l4cli.commands.open_model import load_shown
        from l4cli.signals import GivenUpError

        try:
            with (
                load_shown(base_file, self.loading.but(experts=None))
                if base_file
                else nullcontext() as base
            ):
                for file in files:
                    with load_shown(file, self.loading) as llm:
                        self._one(file, llm, base)
                    if self.exit_code:
                        return
        except GivenUpError as given_up:
            self.exit_code = given_up.exit_code

    def _one(self, file: ModelFile, llm: LLM, base_llm: LLM | None) -> None:
        from l4cli.eval import session
        from l4cli.eval.chunks import cut
        from l4cli.eval.report import result_of
        from l4cli.signals import catch_interrupts

        model = _subject(llm)
        base = _subject(base_llm) if base_llm else None
        n_ctx = self.n_ctx or min(_DEFAULT_CTX, model.weights.n_ctx_train or _DEFAULT_CTX)
        for each in (model, base):
            if each:
                session.check_context(each, n_ctx)
        if base:
            session.check_same_vocabulary(model, base)
        with console.status("reading the text"):
            tokens = self.text.tokens(model.weights)
        bos = model.weights.bos_token if model.weights.adds_bos else None
        chunks = cut(tokens, n_ctx, self.most_chunks, bos, self.text.name)
        total = chunks.count * n_ctx * (2 if base else 1)
        evaluation = session.Evaluation(model, base, chunks)
        try:
            with (
                console.token_progress(model.name, total) as show,
                catch_interrupts(
                    evaluation.interrupt, console.show_stopping, is_last=True
                ) as interrupts,
            ):
                evaluation.stopping = lambda: interrupts.count
                evaluation.show = show
                evaluation.run()
        finally:
            name = (
                f"{model.name} with {own} experts" if (own := llm.options.experts) else model.name
            )
            found = result_of(name, file.n_bytes, evaluation.found, model.weights.piece)
            if found:
                self.results.append(found)
        self.exit_code = interrupts.exit_code if interrupts else 0


def _subject(llm: LLM) -> Subject:
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.eval.session import Subject

    assert isinstance(llm.vocabulary, LlamaModel)
    return Subject(llm.name, llm.vocabulary, llm.conditions)


def _tell(run: _Run, base_file: ModelFile | None, *, json: bool) -> None:
    """Write the results to stdout."""
    from l4cli.commands import eval_show
    from l4cli.eval.report import as_json

    base = base_file.name if base_file else None
    if not json:
        eval_show.show(run.results, run.text.name, base)
        return
    value: dict[str, Any] = {
        "text": run.text.name,
        "against": base,
        "models": [as_json(result) for result in run.results],
        "interrupted": bool(run.exit_code),
    }
    console.data_json(value)
