"""Questions as branches of what was read, decoded together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l4cli.ask.prompt import DocumentPrompt
from l4cli.engine.types import FinishReason, Request, StepOutput
from l4cli.llm import LLM
from l4cli.signals import catch_interrupts


@dataclass(slots=True)
class Answer:
    """The answer to one question. Seconds count from when the questions were put.

    `exit_code` is set if a signal ended it, `error` says why it failed.
    """

    question: str
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "abort"
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    ttft: float = 0.0
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0

    @property
    def is_whole(self) -> bool:
        return self.finish_reason in ("stop", "length")


def answer(
    llm: LLM,
    prompt: DocumentPrompt,
    questions: Sequence[str],
    sampling: Mapping[str, Any],
    *,
    on_text: Callable[[int, str], None] = lambda index, text: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Answer]:
    """Answers in the order of the questions; `on_text` gets the text of the one that is due.

    All are decoded in one batch as far as there is room. After a Ctrl-C or SIGTERM those that have
    begun end where they are, and no more begin.
    """
    answers = [Answer(question) for question in questions]
    engine = llm.engine
    waiting = deque(
        Request(f"question {index}", prompt.tokens(question), llm.params(**sampling))
        for index, question in enumerate(questions)
    )
    shown = [0] * len(answers)
    started, due = clock(), 0
    open_ids: set[str] = set()

    def take(output: StepOutput) -> None:
        _take(answers[_index(output)], output, clock() - started)
        if output.finish_reason:
            open_ids.discard(output.request_id)

    with catch_interrupts(llm.interrupt) as interrupts:
        while due < len(answers):
            while waiting and engine.has_room and not interrupts:
                engine.add_request(waiting[0])
                open_ids.add(waiting.popleft().id)
            if interrupts:
                waiting.clear()
                for request_id in sorted(open_ids):
                    if output := engine.abort(request_id):
                        take(output)
            for output in engine.step():
                take(output)
            while due < len(answers):
                current = answers[due]
                if current.text[shown[due] :]:
                    on_text(due, current.text[shown[due] :])
                    shown[due] = len(current.text)
                if not current.seconds and not interrupts:
                    break
                current.exit_code = interrupts.exit_code if not current.is_whole else 0
                due += 1
                yield current


def _index(output: StepOutput) -> int:
    return int(output.request_id.rpartition(" ")[2])


def _take(answer: Answer, output: StepOutput, now: float) -> None:
    text = output.text
    if output.finish_reason in ("abort", "length"):
        text = text.removesuffix("\ufffd")  # a character of which only some bytes came
    answer.ttft = answer.ttft or now
    answer.text += text
    answer.token_ids += output.token_ids
    answer.num_prompt_tokens = output.num_prompt_tokens
    answer.num_cached_tokens = output.num_cached_tokens
    if output.finish_reason:
        answer.finish_reason, answer.error = output.finish_reason, output.error
        answer.seconds = max(now, 1e-9)
