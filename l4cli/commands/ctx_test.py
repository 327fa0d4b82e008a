"""`l4 ctx-test`: how long a context a model can use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.commands import options
from l4cli.errors import EngineError, UsageError

if TYPE_CHECKING:
    from l4cli.ctxtest.results import Results
    from l4cli.ctxtest.session import Plan
    from l4cli.loading.llm import LLM

_LENGTHS = "1k,2k,4k,8k,16k"
_DEPTHS = "0,10,20,30,40,50,60,70,80,90,100"
_PARALLEL = 4  # questions of a document decoded together
_BRANCH = 256  # tokens of a question and its answer, at most

Lengths = Annotated[
    str | None,
    typer.Option(
        metavar="N,…",
        help=f"Tokens of a prompt and its answer; {_LENGTHS} as far as the model was trained.",
    ),
]
Depths = Annotated[
    str, typer.Option(metavar="P,…", help="Where the needles stand, in percent of the document.")
]
Tasks = Annotated[
    str, typer.Option(metavar="NAME,…", help="Any of literal, latent, several and tracking.")
]
Samples = Annotated[int, typer.Option(min=1, metavar="N", help="Samples of each length.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Other seeds make other documents.")]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Longest answer; more than 32 or 64 for models that think first."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, every answer in it.")]


def ctx_test(
    model: options.Model = None,
    lengths: Lengths = None,
    depths: Depths = _DEPTHS,
    tasks: Tasks = "literal,latent,several,tracking",
    samples: Samples = 1,
    seed: Seed = 0,
    max_tokens: MaxTokens = None,
    json: Json = False,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = "-1",
    cpu_moe: options.CpuMoe = None,
    tensor_split: options.TensorSplit = None,
    kv_type: options.KvType = "f16",
    force: options.Force = False,
) -> None:
    """Test how long a context a model can use.

    Facts are hidden at several depths of texts of several lengths, made on
    the spot, and asked for: literally (literal), in other words (latent),
    several at once (several), and through chains of variables (tracking).
    A text is read once for all its questions.

    The effective length is the longest at which the score is at least 85%
    of that at short lengths; it is kept, and `l4 ask` warns beyond it.
    Ctrl-C shows the lengths that are done.
    """
    from l4cli.commands.open_model import open_model
    from l4cli.ctxtest.results import Results
    from l4cli.ctxtest.session import ContextTest, Plan
    from l4cli.signals import catch_interrupts
    from l4cli.speeds import recall, remember_effective_length

    depth_shares, task_names = _depth_shares(depths), _task_names(tasks)
    asked = options.parse_counts(lengths, "--lengths")
    default = options.parse_counts(_LENGTHS, "--lengths") or ()
    loading = options.loading(threads, gpu_layers, cpu_moe, tensor_split, kv_type, force)
    room = max(asked or default) + _PARALLEL * (_BRANCH + (max_tokens or 0))
    with open_model(model, loading.but(default_ctx=room, parallel=_PARALLEL)) as llm:
        chosen = _within(asked, default, llm)
        plan = Plan(chosen, depth_shares, task_names, samples, seed, max_tokens)
        loaded = llm.conditions
        _announce(plan, recall(loaded).prefill_seconds)
        results = Results(chosen, depth_shares, task_names)
        failure: EngineError | None = None
        with (
            console.status("making the texts") as show,
            catch_interrupts(llm.interrupt, is_last=True) as interrupts,
        ):
            test = ContextTest(llm, plan, stopping=lambda: interrupts.count, show=show)
            try:
                for length, judged in test.run():
                    results.add(length, judged)
            except EngineError as error:
                failure = error  # the lengths before it are tested all the same
        found = results.effective()
        if found and not interrupts and not failure:
            remember_effective_length(loaded.model, loaded.kv_type, found)
        settings = {"model": llm.name, "kv_type": loaded.kv_type, "seed": seed, "samples": samples}
    if json:
        console.data_json({**settings, **results.as_json(), "interrupted": bool(interrupts)})
    elif results.judged:
        _show(results)
    if failure:
        raise failure
    if interrupts:
        missing = [length for length in chosen if length not in results.judged]
        console.warn(f"stopped; not tested: {', '.join(map(str, missing))} tokens")
        raise typer.Exit(interrupts.exit_code)


def _depth_shares(value: str) -> list[float]:
    from l4cli.ctxtest.probes import MOST_DEPTHS

    try:
        percents = sorted({float(part) for part in value.split(",")})
    except ValueError:
        raise UsageError(f"--depths {value!r}: percentages between commas, as 0,50,100") from None
    if not all(0 <= percent <= 100 for percent in percents):
        raise UsageError(f"--depths {value!r}: percentages are between 0 and 100")
    if len(percents) > MOST_DEPTHS:
        raise UsageError(f"--depths: at most {MOST_DEPTHS} of them, not {len(percents)}")
    return [percent / 100 for percent in percents]


def _task_names(value: str) -> list[str]:
    from l4cli.ctxtest.probes import TASKS

    names = list(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in TASKS:
            raise UsageError(f"--tasks: no task {name!r}; there are {', '.join(TASKS)}")
    return names


def _within(asked: tuple[int, ...] | None, default: tuple[int, ...], llm: LLM) -> list[int]:
    """The lengths to test; UsageError where the context does not hold what was asked for."""
    most = llm.n_ctx
    if asked is None:
        return [length for length in default if length <= most] or [most]
    if max(asked) > most:
        raise UsageError(
            f"--lengths: {max(asked)} tokens, but the model was trained for {most}: "
            "test up to there"
        )
    return list(asked)


def _announce(plan: Plan, prefill_seconds: Callable[[int], float | None]) -> None:
    """Say beforehand what there is to read, and how long that takes if it is known."""
    from l4cli.amounts import roughly

    known = [prefill_seconds(length) for length in plan.lengths]
    seconds = sum(found for found in known if found is not None) * plan.num_samples
    time = f", {roughly(seconds)} by the speed measured here" if seconds else ""
    console.note(f"{plan.num_tokens} tokens to read{time}")


def _show(results: Results) -> None:
    """The scores, the heat map of length and depth, and the verdict."""
    from l4cli.amounts import tokens
    from l4cli.ctxtest import report

    tested = sorted(results.judged)
    console.table(report.columns(results), list(report.rows(results)))
    tasks = ", ".join(results.mapped_tasks)
    console.data(f"\nfound, in percent, by length and depth ({tasks}):")
    console.heat_map(
        [tokens(length) for length in tested],
        [f"{depth * 100:g}" for depth in results.depths],
        [[results.cell(length, depth) for depth in results.depths] for length in tested],
    )
    for line in report.verdict(results):
        console.data(line)
