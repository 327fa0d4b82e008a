"""`l4 eval --lm-eval`: tasks of lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from l4cli import console
from l4cli.errors import L4Error

if TYPE_CHECKING:
    from l4cli.eval.harness_tasks import Asked, Metric, Runner
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions

_COLUMNS = ("MODEL", "TASK", "METRIC", "VALUE", "± STDERR", "QUESTIONS")

Found = list[tuple[str, list["Metric"]]]


def run_lm_eval(
    files: Sequence[ModelFile],
    runner: Runner,
    asked: Asked,
    loading: LoadOptions,
    *,
    ctx: int | None,
    json: bool,
) -> None:
    """Run the tasks with each model, one after another, and write their figures."""
    from l4cli.commands.open_model import load_shown
    from l4cli.signals import GivenUpError

    found: Found = []
    failure: L4Error | None = None
    exit_code = 0
    try:
        for file in files:
            with load_shown(file, loading.but(parallel="auto")) as llm:
                exit_code = _run(llm, runner, asked, ctx, found)
            if exit_code:
                break
    except GivenUpError as given_up:
        exit_code = given_up.exit_code
    except L4Error as error:
        failure = error  # the tasks before it are still shown
    _tell(found, interrupted=bool(exit_code), json=json)
    if failure:
        raise failure
    if exit_code:
        console.warn("stopped: only whole tasks are shown")
        raise typer.Exit(exit_code)


def _run(llm: LLM, runner: Runner, asked: Asked, ctx: int | None, found: Found) -> int:
    """Run all tasks; return the exit code of a signal that stopped it, or 0."""
    from l4cli.engine.types import DecodeAbortedError
    from l4cli.signals import catch_interrupts

    with (
        runner.on(llm, ctx) as model,
        console.status(f"{llm.name}: reading the tasks") as update,
        catch_interrupts(model.interrupt, console.show_stopping, is_last=True) as interrupts,
    ):
        metrics: list[Metric] = []
        found.append((llm.name, metrics))
        for task in asked.tasks:
            model.show = lambda done, total, task=task: update(
                f"{llm.name}: {task}: {done:,} of {total:,} requests"
            )
            try:
                metrics += runner.run(model, task)
            except DecodeAbortedError:
                break
            if interrupts:
                break
    return interrupts.exit_code if interrupts else 0


def _tell(found: Found, *, interrupted: bool, json: bool) -> None:
    if json:
        console.data_json(
            {
                "models": [
                    {"model": name, "metrics": [asdict(one) for one in metrics]}
                    for name, metrics in found
                ],
                "interrupted": interrupted,
            }
        )
    elif rows := [
        [
            name,
            one.task,
            one.name,
            f"{one.value:.4f}",
            "" if one.error is None else f"{one.error:.4f}",
            f"{one.count:,}",
        ]
        for name, metrics in found
        for one in metrics
    ]:
        console.table(_COLUMNS, rows)
