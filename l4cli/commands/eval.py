"""`l4 eval`: how well a model predicts a text, what it lost against another, how it answers."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.commands import chunk_options, completion, options
from l4cli.errors import UsageError

if TYPE_CHECKING:
    from l4cli.commands.eval_run import Run


Models = Annotated[
    list[str] | None,
    typer.Argument(
        autocompletion=completion.models,
        metavar="NAME|FILE",
        help="GGUF files, checkpoints, or names from `l4 models` (default: the one that it marks "
        "with *).",
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        autocompletion=completion.models,
        metavar="NAME|FILE",
        help="Compare with this model, such as the one that the others were quantized from; a "
        "checkpoint is converted for it.",
    ),
]
AgainstType = Annotated[
    str | None,
    typer.Option(
        "--against-type",
        autocompletion=completion.types,
        metavar="TYPE",
        help="Type that a checkpoint is converted to (default: BF16 if memory and disk have room, "
        "else Q8_0).",
    ),
]
Find = Annotated[
    bool,
    typer.Option(
        "--find",
        help="With --against: compare all tensors, too, and name those that are broken; otherwise "
        "only where the KL divergence is suspicious.",
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
LmEval = Annotated[
    list[str] | None,
    typer.Option(
        "--lm-eval",
        metavar="TASK",
        help="Run this task of lm-evaluation-harness (the extra `eval`); may be repeated.",
    ),
]
IncludePath = Annotated[
    Path | None,
    typer.Option(
        "--include-path",
        metavar="DIR",
        help="With --lm-eval: folder with tasks of your own, in YAML.",
    ),
]
FewShot = Annotated[
    int | None,
    typer.Option(
        "--few-shot",
        min=0,
        max=1000,
        metavar="N",
        help="With --lm-eval: examples before each question (default: as the task says).",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        max=10**9,
        metavar="N",
        help="With --lm-eval: use only the first N questions of each task.",
    ),
]
ChatTemplate = Annotated[
    bool,
    typer.Option(
        "--chat-template", help="With --lm-eval: put questions into the model's chat template."
    ),
]
Ctx = Annotated[
    int | None,
    typer.Option(
        "--ctx",
        parser=options.parse_tokens,
        metavar="N",
        help="Tokens of a chunk; its second half is scored (default: 512, as llama-perplexity).",
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
    against_type: AgainstType = None,
    find: Find = False,
    text: TextFile = None,
    rows: Rows = None,
    task: Task = None,
    lm_eval: LmEval = None,
    include_path: IncludePath = None,
    few_shot: FewShot = None,
    limit: Limit = None,
    chat_template: ChatTemplate = False,
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
    chunk_options.check(ctx)
    _refuse_together(text=text, rows=rows, task=task, lm_eval=lm_eval)
    if (task or lm_eval) and (against or chunks):
        other, what = "--against" if against else "--chunks", "--task" if task else "--lm-eval"
        raise UsageError(f"{other} is for texts: leave it or {what} out")
    _refuse_without_lm_eval(
        lm_eval,
        include_path=include_path,
        few_shot=few_shot,
        limit=limit,
        chat_template=chat_template,
    )
    loading = options.loading(
        threads, gpu_layers, cpu_moe, tensor_split, kv_type, force, experts=experts
    )
    loading = loading.but(elastic=True)
    if find and not against:
        raise UsageError("--find compares with a reference: give --against")
    asked = chunk_options.models_asked(models)

    from l4cli.commands import eval_models
    from l4cli.commands.eval_run import Run

    if against_type and not any(map(eval_models.is_checkpoint, [*asked, against])):
        raise UsageError("--against-type is for checkpoints: none is given")
    find_models = partial(
        eval_models.found, asked, against, loading, n_ctx=ctx or chunk_options.DEFAULT_CTX, yes=yes
    )
    if task:
        from l4cli.commands.eval_tasks import run_tasks
        from l4cli.eval.tasks import read_task

        questions = read_task(task)
        with find_models(type=against_type) as found:
            run_tasks(found.files, task, questions, loading, ctx=ctx, json=json)
        return
    if lm_eval:
        from l4cli.commands.eval_lm import run_lm_eval
        from l4cli.eval.harness_tasks import Asked, Runner

        wanted = Asked(lm_eval, include_path, few_shot, limit, chat_template)
        with console.status("looking for the tasks"):
            runner = Runner(wanted)
        with find_models(type=against_type) as found:
            run_lm_eval(found.files, runner, wanted, loading, ctx=ctx, json=json)
        return
    from l4cli.eval import texts

    if text:
        source = texts.read_text_file(text)
    else:
        source = texts.read_rows(rows) if rows else texts.built_in_text()
    # What is kept belongs to the model as its file says it runs.
    run = Run(source, loading, ctx, chunks, finds=find, keeps=experts is None)
    with find_models(type=against_type) as found:
        run.all(found.files, found.base)
        base = found.base.name if found.base else None
    _tell(run, base, json=json)
    for failure in run.failures[1:]:
        console.warn(str(failure))
    if run.failures:
        raise run.failures[0]
    if run.exit_code:
        console.warn(
            "stopped: only what is shown was measured"
            if run.results
            else "stopped before anything was measured"
        )
        raise typer.Exit(run.exit_code)


def _refuse_without_lm_eval(lm_eval: object, **given: object) -> None:
    names = chunk_options.options_given(given)
    if names and not lm_eval:
        raise UsageError(f"{names[0]} is for tasks of lm-evaluation-harness: give --lm-eval")


def _refuse_together(**given: object) -> None:
    names = chunk_options.options_given(given)
    if len(names) > 1:
        raise UsageError(f"{' and '.join(names)} cannot be given together: choose one")


def _tell(run: Run, base: str | None, *, json: bool) -> None:
    """Write the results to stdout. `base` is the reference's name."""
    from l4cli.commands import eval_show
    from l4cli.eval.report import as_json

    if not json:
        eval_show.show(run.results, run.text.name, base)
        eval_show.show_oddities(run.oddities, base or "")
        return
    value: dict[str, Any] = {
        "text": run.text.name,
        "against": base,
        "models": [as_json(result) for result in run.results],
        "interrupted": bool(run.exit_code),
    }
    if run.oddities:
        value["oddities"] = {
            name: [asdict(one) for one in found] for name, found in run.oddities.items()
        }
    console.data_json(value)
