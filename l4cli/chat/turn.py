"""Answers: requests through the engine, shown as they come, stopped by Ctrl-C."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from l4cli.engine.engine import Engine
from l4cli.engine.types import FinishReason, Request, StepOutput
from l4cli.errors import EXIT_OK, EngineError
from l4cli.signals import catch_interrupts

Clock = Callable[[], float]


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
    def has_begun(self) -> bool:
        """Whether there is anything of it: else it was stopped before its first token."""
        return bool(self.token_ids) or self.finish_reason != "abort"

    @property
    def num_computed_tokens(self) -> int:
        """Tokens of the prompt that were not in the KV cache already."""
        return self.num_prompt_tokens - self.num_cached_tokens

    @property
    def generation_tps(self) -> float:
        """Tokens generated a second after the first, 0 where there was only one."""
        seconds = self.seconds - self.ttft
        return (len(self.token_ids) - 1) / seconds if len(self.token_ids) > 1 and seconds else 0.0


def generate(
    engine: Engine,
    requests: Sequence[Request],
    view: Callable[[int], AnswerView],
    clock: Clock = time.perf_counter,
) -> list[Answer]:
    """Run requests together to their end, or to the first Ctrl-C or SIGTERM.

    They are shown one after the other: `view(n)` makes the place for the n-th when those before it
    have ended, and what there is of it already appears at once. What was computed stays in the KV
    cache whatever happens. Raises RequestError if the engine refuses a request, and EngineError if
    llama.cpp fails on one.
    """
    answers = {request.id: Answer() for request in requests}
    exit_code = EXIT_OK
    with closing(_InTurn(list(answers), view)) as screen:
        started = clock()
        try:
            for request in requests:
                engine.add_request(request)
            with catch_interrupts(engine.interrupt) as interrupts:
                screen.progress(0, 0)
                while engine.num_unfinished and not interrupts:
                    outputs = engine.step()
                    for output in outputs:
                        _take(answers[output.request_id], output, clock() - started)
                        screen.show(output)
                    if not outputs:
                        _show_progress(engine, screen)
                exit_code = interrupts.exit_code
        finally:
            # Nothing is left in flight, whatever was raised: the next turn must find a free slot.
            aborted = [engine.abort(request.id) for request in requests]
        for rest in filter(None, aborted):
            _take(answers[rest.request_id], rest, clock() - started)
            screen.show(rest)
    for answer in answers.values():
        _drop_half_character(answer, engine)
        if answer.finish_reason == "abort":
            answer.exit_code = exit_code
    return list(answers.values())


class _InTurn:
    """Shows one answer at a time, in the order of `ids`, and keeps the others' texts meanwhile."""

    def __init__(self, ids: Sequence[str], view: Callable[[int], AnswerView]) -> None:
        self._ids, self._make_view = ids, view
        self._texts = dict.fromkeys(ids, "")
        self._ended: set[str] = set()
        self._at = 0
        self._view: AnswerView | None = view(0)

    def progress(self, done: int, total: int) -> None:
        if self._view:
            self._view.progress(done, total)

    def show(self, output: StepOutput) -> None:
        text = _certain(output)
        if output.finish_reason:
            self._ended.add(output.request_id)
        if output.request_id != self._ids[self._at]:
            self._texts[output.request_id] += text
            return
        if text and self._view:
            self._view.write(text)
        while self._ids[self._at] in self._ended and self._at + 1 < len(self._ids):
            self._next()

    def _next(self) -> None:
        self.close()
        self._at += 1
        self._view = self._make_view(self._at)
        if text := self._texts[self._ids[self._at]]:
            self._view.write(text)

    def close(self) -> None:
        view, self._view = self._view, None
        if view:
            view.close()


def _certain(output: StepOutput) -> str:
    """The text of an output, less a character of which only some bytes came."""
    if output.finish_reason in ("abort", "length"):
        return output.text.removesuffix("\ufffd")
    return output.text


def _take(answer: Answer, output: StepOutput, seconds: float) -> None:
    """Add one output to the answer."""
    if output.finish_reason == "error":
        raise EngineError(output.error or "llama.cpp failed and gave no reason")
    if output.token_ids or output.finish_reason != "abort":
        answer.ttft = answer.ttft or seconds
    answer.text += _certain(output)
    answer.token_ids += output.token_ids
    answer.num_prompt_tokens = output.num_prompt_tokens
    answer.num_cached_tokens = output.num_cached_tokens
    answer.seconds = seconds
    if output.finish_reason:
        answer.finish_reason = output.finish_reason


def _drop_half_character(answer: Answer, engine: Engine) -> None:
    """Take off the tokens of a character that was cut short, so that ids and text agree."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    last = b"".join(map(engine.backend.piece, answer.token_ids[-4:]))
    decoder.decode(last)
    pending = len(decoder.getstate()[0])
    while pending > 0:
        pending -= len(engine.backend.piece(answer.token_ids.pop()))


def _show_progress(engine: Engine, screen: _InTurn) -> None:
    for sequence in engine.scheduler.running[:1]:
        cached = sequence.num_cached_tokens
        screen.progress(sequence.num_computed_tokens - cached, sequence.num_prompt_tokens - cached)
