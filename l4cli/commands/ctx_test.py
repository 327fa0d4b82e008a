"""`l4 ctx-test`: tests how long a context a model can use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from l4cli import console
from l4cli.amounts import roughly, tokens
from l4cli.commands import options
from l4cli.errors import EngineError, UsageError

if TYPE_CHECKING:
    from l4cli.ctxtest.results import Results
    from l4cli.ctxtest.session import Plan
    from l4cli.loading.llm import LLM

_LENGTHS = "1k,2k,4k,8k,16k"
_DEPTHS = "0,10,20,30,40,50,60,70,80,90,100"
_PARALLEL = 4  # questions about a document that are decoded together
_BRANCH = 256  # most tokens of a question and its answer together

Lengths = Annotated[
    str | None,
    typer.Option(
        metavar="N,…",
        help=f"Lengths to test: tokens of prompt and answer together (default: {_LENGTHS}, as far "
        "as the model was trained).",
    ),
]
Depths = Annotated[
    str,
    typer.Option(metavar="P,…", help="Where to hide the facts, in percent of the text's length."),
]
Tasks = Annotated[
    str,
    typer.Option(
        metavar="NAME,…", help="Tasks to test: any of literal, latent, several and tracking."
    ),
]
Samples = Annotated[
    int,
    typer.Option(min=1, max=10**6, metavar="N", help="Number of samples per length."),
]
Seed = Annotated[
    int, typer.Option(metavar="N", help="Seed of the texts: another seed makes other texts.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Longest answer, in tokens (default: 32 or 64, depending on the task); models that "
        "think first need more.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, including every answer.")]


def ctx_test(
    model: options.Model = None,
    yes: options.Yes = False,
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
    """Test how long a context a model can really use.

    The test makes texts of several lengths and hides facts at several depths
    in them. Then it asks for the facts: literally (literal), in other words
    (latent), several at once (several), and through chains of variables
    (tracking). Each text is read once for all its questions.

    The effective length is the longest at which the score is at least 85% of
    the score at short lengths. It is saved, and `l4 ask` warns if documents
    are longer. Ctrl-C shows the lengths tested so far.
    """
    from l4cli.commands.open_model import find_file, open_model

    depth_shares, task_names = _depth_shares(depths), _task_names(tasks)
    asked = options.parse_counts(lengths, "--lengths")
    default = options.parse_counts(_LENGTHS, "--lengths") or ()
    loading = options.loading(threads, gpu_layers, cpu_moe, tensor_split, kv_type, force)
    room = max(asked or default) + _PARALLEL * (_BRANCH + (max_tokens or 0))
    file = find_file(model, yes=yes)

    from l4cli.ctxtest.results import Results
    from l4cli.ctxtest.session import ContextTest, Plan
    from l4cli.signals import GivenUpError, catch_interrupts
    from l4cli.speeds import recall, remember_effective_length

    with open_model(file, loading.but(default_ctx=room, parallel=_PARALLEL)) as llm:
        chosen = _within(asked, default, llm)
        plan = Plan(chosen, depth_shares, task_names, samples, seed, max_tokens)
        loaded = llm.conditions
        _announce(plan, recall(loaded).prefill_seconds)
        results = Results(chosen, depth_shares, task_names)
        failure: EngineError | None = None
        with (
            console.status("making the texts") as show,
            catch_interrupts(llm.interrupt, console.show_stopping, is_last=True) as interrupts,
        ):
            test = ContextTest(llm, plan, stopping=lambda: interrupts.count, show=show)
            try:
                with suppress(GivenUpError):
                    for length, judged in test.run():
                        results.add(length, judged)
            except EngineError as error:
                failure = error  # the results of the lengths before it are still shown
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
        console.warn(f"stopped; not tested: {', '.join(map(tokens, missing))} tokens")
        raise typer.Exit(interrupts.exit_code)


def _depth_shares(value: str) -> list[float]:
    """The depths of --depths as shares, 0.0 to 1.0, sorted."""
    from l4cli.ctxtest.probes import MOST_DEPTHS

    try:
        percents = sorted({float(part) for part in value.split(",")})
    except ValueError:
        raise UsageError(
            f"--depths {value!r}: give percentages separated by commas, e.g. 0,50,100"
        ) from None
    if not all(0 <= percent <= 100 for percent in percents):
        raise UsageError(f"--depths {value!r}: percentages must be between 0 and 100")
    if len(percents) > MOST_DEPTHS:
        raise UsageError(f"--depths: give at most {MOST_DEPTHS} depths, not {len(percents)}")
    return [percent / 100 for percent in percents]


def _task_names(value: str) -> list[str]:
    """The tasks of --tasks, without duplicates."""
    from l4cli.ctxtest.probes import TASKS

    names = list(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in TASKS:
            raise UsageError(f"--tasks: no task {name!r}; choose from {', '.join(TASKS)}")
    return names


def _within(asked: tuple[int, ...] | None, default: tuple[int, ...], llm: LLM) -> list[int]:
    """The lengths to test. Raises UsageError if the context cannot hold one that was asked for."""
    most = llm.n_ctx
    if asked is None:
        return [length for length in default if length <= most] or [most]
    if max(asked) > most:
        raise UsageError(
            f"--lengths: {tokens(max(asked))} tokens, but the model was trained for "
            f"{tokens(most)}: give shorter lengths"
        )
    return list(asked)


def _announce(plan: Plan, prefill_seconds: Callable[[int], float | None]) -> None:
    """Write how many tokens will be read, and how long that takes if a rate was measured."""
    known = [prefill_seconds(length) for length in plan.lengths]
    seconds = sum(found for found in known if found is not None) * plan.num_samples
    time = f", {roughly(seconds)} at the speed measured here" if seconds else ""
    console.note(f"{plan.num_tokens:,} tokens to read{time}")


def _show(results: Results) -> None:
    """Write the scores, the heat map of lengths and depths, and the verdict to stdout."""
    from l4cli.ctxtest import report

    tested = sorted(results.judged)
    console.table(report.columns(results), list(report.rows(results)))
    tasks = ", ".join(results.mapped_tasks)
    console.data(f"\nfacts found, in percent, by length and depth ({tasks}):")
    console.heat_map(
        [tokens(length) for length in tested],
        [f"{depth * 100:g}" for depth in results.depths],
        [[results.cell(length, depth) for depth in results.depths] for length in tested],
    )
    for line in report.verdict(results):
        console.data(line)
