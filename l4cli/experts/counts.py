"""How often each expert was chosen, by class of token and by section. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from l4cli.experts.classes import CLASSES

Choices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Routed:
    """What one layer chose for some tokens.

    layer: its number in the model. sections, classes: those of each token [tokens].
    experts: what was chosen [tokens, experts per token].
    """

    layer: int
    sections: npt.NDArray[np.intp]
    classes: npt.NDArray[np.intp]
    experts: npt.NDArray[np.int32]


@dataclass(slots=True)
class Counts:
    """The counts of a text.

    layers: the model's layers that have experts. n_experts: how many each has.
    by_class: [classes, layers, experts]. by_section: [layers, experts] of each section seen so far.
    tokens_by_class: tokens of each class. tokens_by_section: tokens of each section.
    """

    layers: Sequence[int]
    n_experts: int
    by_class: Choices = field(init=False)
    by_section: dict[int, Choices] = field(default_factory=dict)
    tokens_by_class: Choices = field(init=False)
    tokens_by_section: dict[int, int] = field(default_factory=dict)
    _index: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self.by_class = np.zeros((len(CLASSES), len(self.layers), self.n_experts), np.int64)
        self.tokens_by_class = np.zeros(len(CLASSES), np.int64)
        self._index = {layer: index for index, layer in enumerate(self.layers)}

    @property
    def total(self) -> Choices:
        """Choices of all tokens [layers, experts]."""
        total: Choices = self.by_class.sum(0)
        return total

    @property
    def num_tokens(self) -> int:
        """Tokens counted."""
        return int(self.tokens_by_class.sum())

    def add_tokens(self, sections: npt.NDArray[np.intp], classes: npt.NDArray[np.intp]) -> None:
        """Count tokens, whatever was chosen for them."""
        self.tokens_by_class += np.bincount(classes, minlength=len(CLASSES))
        for section, count in zip(*np.unique(sections, return_counts=True), strict=True):
            known = self.tokens_by_section.get(int(section), 0)
            self.tokens_by_section[int(section)] = known + int(count)

    def add(self, routed: Routed) -> None:
        """Count what a layer chose."""
        layer, n, per_token = self._index[routed.layer], self.n_experts, routed.experts.shape[1]
        experts = routed.experts.ravel()
        classes = np.repeat(routed.classes, per_token) * n + experts
        self.by_class[:, layer] += np.bincount(classes, minlength=len(CLASSES) * n).reshape(-1, n)
        for section in np.unique(routed.sections).tolist():
            own = experts[np.repeat(routed.sections == section, per_token)]
            self._section(section)[layer] += np.bincount(own, minlength=n)

    def _section(self, number: int) -> Choices:
        if number not in self.by_section:
            self.by_section[number] = np.zeros((len(self.layers), self.n_experts), np.int64)
        return self.by_section[number]
