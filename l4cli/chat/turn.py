"""Runs the requests of one turn, shows the answers while they are generated, stops on Ctrl-C."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Protocol

from l4cli.console import ReaderGoneError
from l4cli.engine.answer import Answer
from l4cli.engine.engine import Engine
from l4cli.engine.types import Request, StepOutput
from l4cli.errors import EXIT_HUNG_UP, EngineError, OutputError
from l4cli.signals import catch_interrupts

Clock = Callable[[], float]


class AnswerView(Protocol):
    """Shows one answer."""

    def progress(self, done: int, total: int) -> None:
        """Show how many tokens of the prompt are computed; `total` is 0 if not yet known."""
        ...

    def write(self, text: str) -> None:
        """Show the answer's next characters."""
        ...

    def close(self) -> None:
        """End the view of an answer that ended or was stopped; leave the cursor on a new line."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """The answers of one turn; `lost` is the error after which they could not be shown any more."""

    answers: list[Answer]
    lost: Exception | None = None


def generate(
    engine: Engine,
    requests: Sequence[Request],
    view: Callable[[int], AnswerView],
    clock: Clock = time.perf_counter,
) -> Turn:
    """Run requests at the same time until they end, or until a signal asks to stop.

    Signals are Ctrl-C, SIGTERM and SIGHUP. If the answers cannot be shown any more, because the
    terminal is gone or the disk full, they are stopped in the same way: what there is, is returned.

    The answers are shown one after the other. `view(n)` is called when all answers before answer n
    have ended; the text that answer n already has then appears at once. All computed tokens stay in
    the KV cache, even after an error. Raises RequestError if the engine refuses a request, and
    EngineError if llama.cpp fails on one.
    """
    answers = {request.id: Answer() for request in requests}
    started = clock()
    with (
        closing(_InTurn(list(answers), view)) as screen,
        catch_interrupts(engine.interrupt) as interrupts,
        closing(
            engine.run(requests, stopping=lambda: interrupts.count or (1 if screen.lost else 0))
        ) as steps,
    ):
        screen.progress(0, 0)
        for outputs in steps:
            for output in outputs:
                answer = answers[output.request_id]
                screen.show(output, answer.take(output, clock() - started))
                if answer.finish_reason == "error":
                    raise EngineError(answer.error or "llama.cpp failed and gave no reason")
            if not outputs:
                now = engine.progress
                cached = now.num_cached_tokens
                screen.progress(now.num_computed_tokens - cached, now.num_prompt_tokens - cached)
    for answer in answers.values():
        answer.drop_half_character(engine.backend.piece)
        if answer.finish_reason == "abort":
            answer.exit_code = interrupts.exit_code
            if screen.lost and _is_hangup(screen.lost):
                answer.exit_code = EXIT_HUNG_UP
    lost = screen.lost
    return Turn(list(answers.values()), None if lost and _is_hangup(lost) else lost)


def _is_hangup(error: Exception) -> bool:
    """Whether an error of writing means that the terminal is gone."""
    cause = error.__cause__ or error
    return isinstance(cause, OSError) and cause.errno == errno.EIO


class _InTurn:
    """Shows one answer at a time, in the order of `ids`, and holds back the text of later ones.

    The attribute `lost` is the error after which nothing can be shown any more.
    """

    def __init__(self, ids: Sequence[str], view: Callable[[int], AnswerView]) -> None:
        self._ids, self._make_view = ids, view
        self._texts = dict.fromkeys(ids, "")
        self._ended: set[str] = set()
        self._at = 0
        self._view: AnswerView | None = view(0)
        self.lost: Exception | None = None

    def progress(self, done: int, total: int) -> None:
        with self._noting_loss():
            if self._view and not self.lost:
                self._view.progress(done, total)

    def show(self, output: StepOutput, text: str) -> None:
        if output.finish_reason:
            self._ended.add(output.request_id)
        if output.request_id != self._ids[self._at]:
            self._texts[output.request_id] += text
            return
        self._write(text)
        while self._ids[self._at] in self._ended and self._at + 1 < len(self._ids):
            self._next()

    def _write(self, text: str) -> None:
        with self._noting_loss():
            if text and self._view and not self.lost:
                self._view.write(text)

    def _next(self) -> None:
        self.close()
        self._at += 1
        with self._noting_loss():
            if not self.lost:
                self._view = self._make_view(self._at)
        self._write(self._texts[self._ids[self._at]])

    def close(self) -> None:
        view, self._view = self._view, None
        with self._noting_loss():
            if view and not self.lost:
                view.close()

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except (OSError, OutputError, ReaderGoneError) as error:
            if isinstance(error, OSError) and not _is_hangup(error):
                raise
            self.lost = error
