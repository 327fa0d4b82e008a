"""Counts -> what they tell: evenness, hottest and unused experts, overlap of two uses. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from l4cli.experts.counts import Choices

COLD = 0.1  # an expert is cold if it is chosen less often than this times an even share

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layer:
    """How a layer's choices are spread over its experts.

    number: of the layer in the model.
    evenness: the entropy of the choices as a share of the largest possible one: 1 if all experts
        are chosen equally often, 0 if it is always the same.
    hottest: the expert that is chosen most often. load: how often, in even shares; 1 is even.
    num_cold: experts with less than a tenth of an even share. num_unused: those never chosen.
    """

    number: int
    evenness: float
    hottest: int
    load: float
    num_cold: int
    num_unused: int


def shares(choices: Choices) -> Shares:
    """Return the share of each expert in its layer's choices [layers, experts]; 0 without any."""
    sums = choices.sum(-1, keepdims=True)
    found: Shares = choices / np.maximum(sums, 1)
    return found


def entropy(choices: Choices) -> Shares:
    """Return the entropy of each layer's choices in bits [layers]."""
    share = shares(choices)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    found: Shares = -(share * logs).sum(-1) + 0.0
    return found


def layer_of(number: int, choices: Choices) -> Layer:
    """Return the figures of one layer. choices: [experts]."""
    n_experts = len(choices)
    loads = shares(choices) * n_experts
    most = np.log2(n_experts) if n_experts > 1 else 1.0
    return Layer(
        number=number,
        evenness=float(entropy(choices) / most),
        hottest=int(choices.argmax()),
        load=float(loads.max()),
        num_cold=int((loads < COLD).sum()),
        num_unused=int((choices == 0).sum()),
    )


def overlap(first: Choices, second: Choices) -> Shares:
    """Return how alike two uses of the experts are, layer by layer [layers].

    1 if every expert has the same share in both, 0 if no expert is in both: the sum of the smaller
    shares.
    """
    found: Shares = np.minimum(shares(first), shares(second)).sum(-1)
    return found


@dataclass(frozen=True, slots=True)
class Preference:
    """The expert that a part of the text (a class of tokens) prefers most.

    share: of the part's tokens in that layer. usual: of all tokens.
    """

    layer: int
    expert: int
    share: float
    usual: float


def preference(layers: list[int], part: Choices, whole: Choices) -> Preference:
    """Return the expert whose share in `part` exceeds that in `whole` by most."""
    more = shares(part) - shares(whole)
    at, expert = np.unravel_index(int(more.argmax()), more.shape)
    return Preference(
        layers[int(at)],
        int(expert),
        float(shares(part)[at, expert]),
        float(shares(whole)[at, expert]),
    )
