"""Where in a batch the auxiliary losses of `carry.py` have something known or looked at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from demo.render import CARRIED, Sample

NONE = -100  # a target that is not there


@dataclass(frozen=True)
class Marks:
    """Indices of a batch's tokens: those [carried] by which a value must be known, where it begins
    [carried], and its first ids [carried, CARRIED]; those [looking] before an answer's first ids,
    each with its number in the answer and the one or two tokens it has to look at, the first and
    the last [looking, 3]; and all
    [asking] of which an id is asked for between the layers, and that id [asking]."""

    carried: Tensor
    origins: Tensor
    values: Tensor
    looking: Tensor
    sources: Tensor
    asking: Tensor
    following: Tensor

    def __bool__(self) -> bool:
        return len(self.carried) + len(self.asking) > 0


def marks(samples: list[Sample], starts: list[int]) -> Marks:
    """Of conversations that begin at `starts`."""
    carried, looking, decided, values = [], [], [], []
    for start, sample in zip(starts, samples, strict=True):
        for place, begin, value in sample.carried:
            carried.append((start + place, start + begin))
            values.append(value + [NONE] * (CARRIED - len(value)))
        for place, number, first, last in sample.sources:
            following = sample.ids[place + 1]
            looking.append((start + place, following, number, start + first, start + last))
        decided += [(start + place, first) for place, first in sample.decided]
    at, origins = _columns(carried, 2).unbind(1)
    before = _columns(looking, 5)
    asked = torch.cat([before[:, :2], _columns(decided, 2)])
    firsts = _columns(values, CARRIED)
    return Marks(at, origins, firsts, before[:, 0], before[:, 2:], asked[:, 0], asked[:, 1])


def _columns(rows: list, count: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).reshape(-1, count)
