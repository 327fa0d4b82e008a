"""A text that the engine's thread scores, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from l4cli.engine.engine import Engine
from l4cli.engine.types import TokenLogprob


@dataclass(slots=True)
class Scoring:
    """A text that is being scored."""

    tokens: Sequence[int]
    num_top: int
    future: Future[list[TokenLogprob]] = field(default_factory=Future)
    _found: list[TokenLogprob] = field(default_factory=list)
    _pieces: Iterator[list[TokenLogprob]] | None = None

    def advance(self, engine: Engine) -> bool:
        """Score the next piece. Whether the text is done, or nobody waits for it any more."""
        if self.future.cancelled():
            return True
        self._pieces = self._pieces or engine.score(self.tokens, self.num_top)
        try:
            piece = next(self._pieces, None)
        except BaseException:
            self._pieces = None
            raise
        if piece is not None:
            self._found += piece
            return False
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self._found)
        return True

    def fail(self, error: Exception) -> bool:
        """Give the error to whoever waits. True: the text is done."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
        return True
