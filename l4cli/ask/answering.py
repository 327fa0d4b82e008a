"""Answers several questions in one batch; they share the documents' prefix in the KV cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from l4cli.ask.parts import Coverage
from l4cli.documents.quotes import Quotation
from l4cli.engine.answer import Answer
from l4cli.engine.types import Request, SamplingParams
from l4cli.loading.llm import LLM
from l4cli.signals import catch_interrupts


@dataclass(slots=True)
class QuestionAnswer(Answer):
    """The answer to one question, with the quotations that support it.

    `coverage` is set if the documents were read in parts.
    """

    question: str = ""
    quotations: list[Quotation] = field(default_factory=list)
    coverage: Coverage | None = None


def answer(
    llm: LLM,
    questions: Sequence[str],
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    *,
    on_text: Callable[[int, str], None] = lambda index, text: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[QuestionAnswer]:
    """Yield the answers in the order of the questions.

    llm: the model.
    questions: the questions, for the answers' `question` field.
    prompts: the whole prompt of each question, as token ids.
    params: sampling parameters of all answers.
    on_text: called with an answer's index and its new text, for one answer after the other.
    clock: returns the time in seconds.

    The questions are decoded together as far as there is room. After Ctrl-C or SIGTERM, answers in
    progress end early and no further ones start.
    """
    answers = [QuestionAnswer(question=question) for question in questions]
    requests = [
        Request(f"question {index}", tuple(tokens), params) for index, tokens in enumerate(prompts)
    ]
    by_id = dict(zip([request.id for request in requests], answers, strict=True))
    started = clock()
    with (
        catch_interrupts(llm.interrupt) as interrupts,
        closing(llm.engine.run(requests, stopping=lambda: interrupts.count)) as steps,
    ):
        for index, current in enumerate(answers):
            shown = 0
            while shown < len(current.text) or not current.has_ended:
                outputs = next(steps, None)
                for output in outputs or ():
                    by_id[output.request_id].take(output, clock() - started)
                if text := current.text[shown:]:
                    shown = len(current.text)
                    on_text(index, text)
                if outputs is None:  # the run was stopped before this answer started
                    current.seconds = current.seconds or clock() - started
                    break
            current.exit_code = 0 if current.is_whole else interrupts.exit_code
            yield current
