"""--verify: a sample of a run's answers, asked again one by one and alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from l4cli.batch.rows import Row
from l4cli.engine.types import Completion, Request
from l4cli.loading.llm import LLM


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer and what the same request gave alone."""

    line: int
    text: str
    alone: str

    @property
    def is_same(self) -> bool:
        return self.text == self.alone

    @property
    def first_difference(self) -> int:
        """The index of the first character that differs."""
        pairs = zip(self.text, self.alone, strict=False)
        equal = (index for index, (a, b) in enumerate(pairs) if a != b)
        return next(equal, min(len(self.text), len(self.alone)))


class Sample:
    """A fair choice of `size` answers among any number, kept as they come (reservoir sampling).

    Only answers that can be repeated are chosen from: greedy ones, and drawn ones with a seed.
    """

    def __init__(self, size: int, chance: random.Random | None = None) -> None:
        self._size = size
        self._chance = chance or random.Random()
        self._num_offered = 0
        self._kept: list[tuple[int, Request, str]] = []

    def offer(self, row: Row, request: Request, completion: Completion) -> None:
        """Keep this answer, or do not."""
        params = request.params
        if not self._size or (params.temperature > 0 and params.seed is None):
            return
        self._num_offered += 1
        kept = row.line, request, completion.text
        if len(self._kept) < self._size:
            self._kept.append(kept)
        elif (place := self._chance.randrange(self._num_offered)) < self._size:
            self._kept[place] = kept

    def check(self, llm: LLM) -> Iterator[Checked]:
        """Each answer that was kept beside the one its request gives alone, no prefix reused."""
        for line, request, text in sorted(self._kept, key=lambda kept: kept[0]):
            llm.engine.forget()
            (alone,) = llm.engine.generate([request])
            yield Checked(line, text, alone.text)
