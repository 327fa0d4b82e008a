"""One answer: a request through the engine, shown as it comes, stopped by Ctrl-C."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from l4cli.engine.engine import Engine
from l4cli.engine.types import FinishReason, Request, StepOutput
from l4cli.errors import EXIT_OK, EngineError
from l4cli.signals import catch_interrupts


class AnswerView(Protocol):
    """Where an answer appears."""

    def progress(self, done: int, total: int) -> None:
        """How much of the prompt has been computed; a total of 0 means not known yet."""
        ...

    def write(self, text: str) -> None:
        """The answer's next characters."""
        ...

    def close(self) -> None:
        """The answer has ended, or what there is of it: leave the cursor on a line of its own."""
        ...


@dataclass(slots=True)
class Answer:
    """What one request brought. Times are seconds; `exit_code` is set if a signal ended it."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "abort"
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    ttft: float = 0.0
    seconds: float = 0.0
    exit_code: int = 0

    @property
    def prompt_tps(self) -> float:
        """Prompt tokens computed a second, 0 where none were."""
        computed = self.num_prompt_tokens - self.num_cached_tokens
        return computed / self.ttft if self.ttft else 0.0

    @property
    def generation_tps(self) -> float:
        """Tokens generated a second after the first, 0 where there was only one."""
        seconds = self.seconds - self.ttft
        return (len(self.token_ids) - 1) / seconds if len(self.token_ids) > 1 and seconds else 0.0


def generate(
    engine: Engine,
    request: Request,
    view: AnswerView,
    clock: Callable[[], float] = time.perf_counter,
) -> Answer:
    """Run one request to its end, or to the first Ctrl-C or SIGTERM.

    What was computed stays in the KV cache whatever happens. Raises RequestError if the engine
    refuses the request, and EngineError if llama.cpp fails on it.
    """
    answer = Answer()
    started = clock()
    engine.add_request(request)
    try:
        with catch_interrupts(engine.interrupt) as interrupts:
            view.progress(0, 0)
            for_good = False
            while not for_good and not interrupts:
                outputs = engine.step()
                for output in outputs:
                    answer.ttft = answer.ttft or clock() - started
                    for_good = _take(answer, output, view)
                if not outputs:
                    _show_progress(engine, view)
            answer.exit_code = interrupts.exit_code
    finally:
        # Nothing is left in flight, whatever was raised: the next turn must find a free slot.
        rest = engine.abort(request.id)
    if rest:
        _take(answer, rest, view)
    _drop_half_character(answer, engine)
    answer.seconds = clock() - started
    if answer.finish_reason != "abort":
        answer.exit_code = EXIT_OK
    return answer


def _take(answer: Answer, output: StepOutput, view: AnswerView) -> bool:
    """Add one output to the answer; True if it was the last."""
    if output.finish_reason == "error":
        raise EngineError(output.error or "llama.cpp failed and gave no reason")
    text = output.text
    if output.finish_reason in ("abort", "length"):
        text = text.removesuffix("\ufffd")  # a character of which only some bytes came
    answer.text += text
    answer.token_ids += output.token_ids
    answer.num_prompt_tokens = output.num_prompt_tokens
    answer.num_cached_tokens = output.num_cached_tokens
    if text:
        view.write(text)
    if output.finish_reason:
        answer.finish_reason = output.finish_reason
    return output.finish_reason is not None


def _drop_half_character(answer: Answer, engine: Engine) -> None:
    """Take off the tokens of a character that was cut short, so that ids and text agree."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    last = b"".join(map(engine.backend.piece, answer.token_ids[-4:]))
    decoder.decode(last)
    pending = len(decoder.getstate()[0])
    while pending > 0:
        pending -= len(engine.backend.piece(answer.token_ids.pop()))


def _show_progress(engine: Engine, view: AnswerView) -> None:
    for sequence in engine.scheduler.running:
        cached = sequence.num_cached_tokens
        view.progress(sequence.num_computed_tokens - cached, sequence.num_prompt_tokens - cached)
