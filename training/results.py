"""What a training pass got right, skill by skill."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.batches import Batch


@dataclass
class Result:
    """Sums over learnt tokens and answers; an answer is right if greedy decoding would write it."""

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
    """A result a skill."""

    def __missing__(self, skill: str) -> Result:
        return self.setdefault(skill, Result())

    def add(self, other: "Results") -> None:
        for skill, result in other.items():
            self[skill].add(result)


def outcome(batch: Batch, losses: Tensor, echoes: Tensor, wrong: Tensor) -> Results:
    """From each learnt token's loss and whether it would have been wrong."""
    count = len(batch.skills)
    mistakes = torch.zeros(count).index_add_(0, batch.answers, wrong.float())
    sums = torch.zeros(count).index_add_(0, batch.answers, losses)
    lengths = torch.bincount(batch.answers, minlength=count)
    results = Results()
    per_answer = zip(batch.skills, sums.tolist(), lengths.tolist(), mistakes.tolist(), strict=True)
    for skill, loss, length, missed in per_answer:
        results[skill].add(Result(loss, length, int(missed == 0), 1))
    results["~echo"].add(Result(float(echoes.sum()), len(echoes)))
    return results
