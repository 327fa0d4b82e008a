"""Log-likelihoods of answers -> accuracy, as lm-evaluation-harness defines it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from l4cli.eval.scoring import Likelihood
from l4cli.eval.tasks import Question

_Z = 1.959963984540054  # 95% of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A share of right answers.

    error: standard error of the mean, as the harness tells it.
    low, high: Wilson's 95% confidence interval, which holds for few questions, too.
    """

    value: float
    error: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with its likelihoods.

    chosen: the likeliest choice; for an exact match, 0 if greedy decoding gives the answer, else
        None.
    chosen_norm: the choice with the greatest log-likelihood per character.
    """

    question: Question
    likelihoods: tuple[Likelihood, ...]

    @property
    def chosen(self) -> int | None:
        if not self.question.choices:
            return 0 if self.likelihoods[0].is_greedy else None
        return _greatest([one.logprob for one in self.likelihoods])

    @property
    def chosen_norm(self) -> int | None:
        if not self.question.choices:
            return self.chosen
        pairs = zip(self.likelihoods, self.question.choices, strict=True)
        return _greatest([one.logprob / len(text) for one, text in pairs])


@dataclass(slots=True)
class Grades:
    """The answers so far."""

    answered: list[Answered] = field(default_factory=list)

    @property
    def acc(self) -> Accuracy | None:
        """Questions whose likeliest choice is right; None if there are none with choices."""
        found = [one.chosen == one.question.gold for one in self.answered if one.question.choices]
        return accuracy(found)

    @property
    def acc_norm(self) -> Accuracy | None:
        """The same with log-likelihoods divided by the characters of the choice."""
        with_choices = [one for one in self.answered if one.question.choices]
        return accuracy([one.chosen_norm == one.question.gold for one in with_choices])

    @property
    def exact_match(self) -> Accuracy | None:
        """Questions without choices whose answer greedy decoding gives; None if there are none."""
        found = [one.chosen == 0 for one in self.answered if not one.question.choices]
        return accuracy(found)


def accuracy(right: Sequence[bool]) -> Accuracy | None:
    """Return the share of right answers with its errors; None for no answers."""
    n = len(right)
    if not n:
        return None
    p = sum(right) / n
    error = math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else 0.0
    scale = 1 + _Z * _Z / n
    middle = (p + _Z * _Z / (2 * n)) / scale
    half = _Z / scale * math.sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
    return Accuracy(p, error, max(0.0, middle - half), min(1.0, middle + half), n)


def _greatest(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)  # the first one of equals, as argmax
