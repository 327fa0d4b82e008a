"""Counts what a training pass got right, skill by skill."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.batches import Batch


@dataclass
class Result:
    """Sums over learnt tokens and over answers.

    An answer is right if greedy decoding would write it.
    """

    loss: float = 0.0
    tokens: int = 0
    right: int = 0
    answers: int = 0

    def add(self, other: "Result") -> None:
        self.loss += other.loss
        self.tokens += other.tokens
        self.right += other.right
        self.answers += other.answers

    def __str__(self) -> str:
        right = self.right / max(1, self.answers)
        return f"{self.loss / max(1, self.tokens):.3f} {right:.1%}"


class Results(dict[str, Result]):
    """Results by skill. Names that begin with "~" are not skills but other losses."""

    def __missing__(self, skill: str) -> Result:
        return self.setdefault(skill, Result())

    def add(self, other: "Results") -> None:
        for skill, result in other.items():
            self[skill].add(result)


def outcome(batch: Batch, losses: Tensor, repeat_losses: Tensor, wrong: Tensor) -> Results:
    """Return the results of a batch.

    losses: of the assistant's tokens.
    repeat_losses: of repetitions in the prompt.
    wrong: which of the assistant's tokens greedy decoding would get wrong.
    """
    count = len(batch.skills)
    mistakes = torch.zeros(count).index_add_(0, batch.answers, wrong.float())
    sums = torch.zeros(count).index_add_(0, batch.answers, losses)
    lengths = torch.bincount(batch.answers, minlength=count)
    results = Results()
    per_answer = zip(batch.skills, sums.tolist(), lengths.tolist(), mistakes.tolist(), strict=True)
    for skill, loss, length, missed in per_answer:
        results[skill].add(Result(loss, length, int(missed == 0), 1))
    results["~repetitions"].add(Result(float(repeat_losses.sum()), len(repeat_losses)))
    return results
