"""Questions as branches of what was read, decoded together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from l4cli.ask.parts import Coverage
from l4cli.documents.quotes import Quotation
from l4cli.engine.types import FinishReason, Request, SamplingParams, StepOutput
from l4cli.loading.llm import LLM
from l4cli.signals import catch_interrupts


@dataclass(slots=True)
class Answer:
    """The answer to one question. Seconds count from when the questions were put.

    `exit_code` is set if a signal ended it, `error` says why it failed. `coverage` is that of
    documents read in parts.
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
    quotations: list[Quotation] = field(default_factory=list)
    coverage: Coverage | None = None

    @property
    def is_whole(self) -> bool:
        return self.finish_reason in ("stop", "length")


def answer(
    llm: LLM,
    questions: Sequence[str],
    prompts: Sequence[Sequence[int]],
    params: SamplingParams,
    *,
    on_text: Callable[[int, str], None] = lambda index, text: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Answer]:
    """Answers in the order of the questions; `on_text` gets the text of the one that is due.

    `prompts` are token ids. All are decoded in one batch as far as there is room. After a Ctrl-C or
    SIGTERM those that have begun end where they are, and no more begin.
    """
    answers = [Answer(question) for question in questions]
    waiting = deque(
        Request(f"question {index}", tuple(tokens), params) for index, tokens in enumerate(prompts)
    )
    engine, open_ids = llm.engine, set[str]()
    started = clock()

    def take(output: StepOutput) -> None:
        _take(answers[_index(output.request_id)], output, clock() - started)
        if output.finish_reason:
            open_ids.discard(output.request_id)

    def stop() -> None:
        for request_id in sorted(open_ids):
            if output := engine.abort(request_id):
                take(output)
        while waiting:
            answers[_index(waiting.popleft().id)].seconds = clock() - started

    with catch_interrupts(llm.interrupt) as interrupts:
        try:
            for index, current in enumerate(answers):
                shown = 0
                while shown < len(current.text) or not current.seconds:
                    if interrupts:
                        stop()
                    while waiting and engine.has_room:
                        engine.add_request(waiting[0])
                        open_ids.add(waiting.popleft().id)
                    for output in engine.step():
                        take(output)
                    if text := current.text[shown:]:
                        shown = len(current.text)
                        on_text(index, text)
                current.exit_code = 0 if current.is_whole else interrupts.exit_code
                yield current
        finally:
            stop()


def _index(request_id: str) -> int:
    return int(request_id.rpartition(" ")[2])


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
