"""--verify: runs a sample of a run's requests again, one at a time, and compares the answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from l4cli.batch.rows import Row
from l4cli.engine.types import Completion, Request
from l4cli.loading.llm import LLM


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer of the run, and the answer that the same request gave when it ran alone.

    line: the row's line in the input.
    text: the answer in the run.
    alone: the answer alone.
    """

    line: int
    text: str
    alone: str

    @property
    def is_same(self) -> bool:
        return self.text == self.alone

    @property
    def first_difference(self) -> int:
        """The index of the first character that differs; if none does, the shorter length."""
        pairs = zip(self.text, self.alone, strict=False)
        equal = (index for index, (a, b) in enumerate(pairs) if a != b)
        return next(equal, min(len(self.text), len(self.alone)))


class Sample:
    """A uniform random sample of `size` answers from a stream of any length (reservoir sampling).

    Only answers that can be reproduced are sampled: greedy ones, and those drawn with a seed.
    """

    def __init__(self, size: int, chance: random.Random | None = None) -> None:
        self._size = size
        self._chance = chance or random.Random()
        self._num_offered = 0
        self._kept: list[tuple[int, Request, str]] = []

    def offer(self, row: Row, request: Request, completion: Completion) -> None:
        """Add an answer to the sample, or skip it at random."""
        params = request.params
        if not self._size or (params.temperature > 0 and params.seed is None):
            return
        self._num_offered += 1
        kept = row.line, request, completion.text
        if len(self._kept) < self._size:
            self._kept.append(kept)
        elif (place := self._chance.randrange(self._num_offered)) < self._size:
            self._kept[place] = kept

    def check(self, llm: LLM, stopping: Callable[[], object] = lambda: False) -> Iterator[Checked]:
        """Run each sampled request alone, without prefix reuse, and yield both answers.

        Ends early once `stopping` is true, which is asked before each step of the engine.
        """
        for line, request, text in sorted(self._kept, key=lambda kept: kept[0]):
            llm.engine.forget()
            answers = list(llm.engine.generate([request], stopping))
            if stopping():
                return
            yield Checked(line, text, answers[0].text)
