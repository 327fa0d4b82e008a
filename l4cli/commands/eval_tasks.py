"""`l4 eval --task`: questions answered by log-likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from l4cli import console
from l4cli.errors import ContextOverflowError, L4Error

if TYPE_CHECKING:
    from l4cli.eval.grading import Accuracy, Grades
    from l4cli.eval.scoring import Group
    from l4cli.eval.tasks import Question
    from l4cli.loading.file import ModelFile
    from l4cli.loading.llm import LLM
    from l4cli.loading.options import LoadOptions

_COLUMNS = ("MODEL", "METRIC", "VALUE", "± STDERR", "95% INTERVAL", "QUESTIONS")


def run_tasks(
    files: Sequence[ModelFile],
    task: Path,
    questions: list[Question],
    loading: LoadOptions,
    *,
    ctx: int | None,
    json: bool,
) -> None:
    """Answer the questions of a file with each model, and write the accuracies."""
    from l4cli.commands.open_model import load_shown
    from l4cli.signals import GivenUpError

    found: list[tuple[str, Grades]] = []
    failure: L4Error | None = None
    exit_code = 0
    try:
        for file in files:
            with load_shown(file, loading) as llm:
                exit_code = _answer(llm, file, questions, ctx, found)
            if exit_code:
                break
    except GivenUpError as given_up:
        exit_code = given_up.exit_code
    except L4Error as error:
        failure = error  # the answers before it are still shown
    if json:
        value = {
            "task": str(task),
            "models": [_as_json(name, grades) for name, grades in found],
            "interrupted": bool(exit_code),
        }
        console.data_json(value)
    elif rows := [row for name, grades in found for row in _rows(name, grades)]:
        console.table(_COLUMNS, rows)
    if failure:
        raise failure
    if exit_code:
        done = sum(len(grades.answered) for _, grades in found)
        console.warn(f"stopped: {done:,} of {len(questions) * len(files):,} questions answered")
        raise typer.Exit(exit_code)


def _answer(
    llm: LLM,
    file: ModelFile,
    questions: list[Question],
    ctx: int | None,
    found: list[tuple[str, Grades]],
) -> int:
    """Answer all questions; return the exit code of a signal that stopped it, or 0."""
    from l4cli.engine.llamacpp import LlamaModel
    from l4cli.engine.types import DecodeAbortedError
    from l4cli.eval.grading import Answered, Grades
    from l4cli.eval.scoring import Scorer
    from l4cli.signals import catch_interrupts

    model = llm.vocabulary
    assert isinstance(model, LlamaModel)
    most = ctx or model.n_ctx_train or 1 << 62
    groups = [_group(model, question, most) for question in questions]
    scorer = Scorer.of(llm.name, model, llm.conditions, groups)
    grades = Grades()
    found.append((file.name, grades))
    try:
        with (
            console.part_progress(f"{llm.name}: questions", len(questions)) as show,
            catch_interrupts(scorer.interrupt, console.show_stopping, is_last=True) as interrupts,
        ):
            try:
                scored = scorer.run(groups, stopping=lambda: interrupts.count)
                for question, likelihoods in zip(questions, scored, strict=False):
                    grades.answered.append(Answered(question, tuple(likelihoods)))
                    show(len(grades.answered))
            except DecodeAbortedError:
                pass
    finally:
        scorer.close()
    return interrupts.exit_code if interrupts else 0


def _group(model: Any, question: Question, most: int) -> Group:
    from l4cli.eval.scoring import Group, encode_pair

    pairs = [encode_pair(model, question.question, text) for text in question.continuations]
    group = Group(pairs[0][0], [continuation for _, continuation in pairs])
    if group.longest > most:
        raise ContextOverflowError(
            f"{question.where}: question and answer have {group.longest:,} tokens, but the context "
            f"holds {most:,}"
        )
    return group


def _rows(name: str, grades: Grades) -> list[list[str]]:
    return [
        [
            name,
            metric,
            f"{found.value:.4f}",
            f"{found.error:.4f}",
            f"{found.low:.4f}–{found.high:.4f}",
            f"{found.count:,}",
        ]
        for metric, found in _metrics(grades).items()
    ]


def _metrics(grades: Grades) -> dict[str, Accuracy]:
    found = {"acc": grades.acc, "acc_norm": grades.acc_norm, "exact_match": grades.exact_match}
    return {name: one for name, one in found.items() if one}


def _as_json(name: str, grades: Grades) -> dict[str, Any]:
    return {
        "model": name,
        **{metric: asdict(found) for metric, found in _metrics(grades).items()},
        "answers": [
            {
                "where": one.question.where,
                "gold": one.question.gold,
                "chosen": one.chosen,
                "chosen_norm": one.chosen_norm,
                "logprobs": [round(each.logprob, 6) for each in one.likelihoods],
                "is_greedy": [each.is_greedy for each in one.likelihoods],
            }
            for one in grades.answered
        ],
    }
