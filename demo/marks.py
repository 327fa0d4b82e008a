"""Where in a batch the auxiliary losses of `carry.py` have something known or looked at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from demo.render import CARRIED, Sample

NONE = -100  # a target that is not there


@dataclass(frozen=True)
class Marks:
    """Indices of a batch's tokens: those [carried] by which a value must be known, where it begins
    [carried], and its first ids [carried, CARRIED]; those [looking] by which one of an answer's
    first ids can be known, that id [looking], the head that is to find it [looking], and the one or
    two tokens that it has to look at, the first and the last [looking, 2]."""

    carried: Tensor
    origins: Tensor
    values: Tensor
    looking: Tensor
    following: Tensor
    heads: Tensor
    sources: Tensor

    def __bool__(self) -> bool:
        return len(self.carried) + len(self.looking) > 0


def marks(samples: list[Sample], starts: list[int]) -> Marks:
    """Of conversations that begin at `starts`."""
    carried, values, looks = [], [], []
    for start, sample in zip(starts, samples, strict=True):
        for place, begin, value in sample.carried:
            carried.append((start + place, start + begin))
            values.append(value + [NONE] * (CARRIED - len(value)))
        for place, known, head, first, last in sample.looks:
            looks.append((start + place, known, head, start + first, start + last))
    at, origins = _columns(carried, 2).unbind(1)
    looking, following, heads, first, last = _columns(looks, 5).unbind(1)
    sources = torch.stack([first, last], 1)
    return Marks(at, origins, _columns(values, CARRIED), looking, following, heads, sources)


def _columns(rows: list, count: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).reshape(-1, count)
