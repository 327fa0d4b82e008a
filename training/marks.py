"""Where in a batch the auxiliary losses of `carry.py` have something known or looked at."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.looks import CARRIED, NONE
from training.render import Sample


class Shown(NamedTuple):
    """Looks as columns: the layer, the place, the id, the head, and where it looks [looks]."""

    layer: Tensor
    place: Tensor
    id: Tensor
    head: Tensor
    at: Tensor

    def those(self, wanted: Tensor) -> "Shown":
        return Shown(*(column[wanted] for column in self))


@dataclass(frozen=True)
class Marks:
    """Indices of a batch's tokens: those [carried] by which a value must be known, where it begins
    [carried], and its first ids [carried, CARRIED]; those [foreseen] from where an answer's next
    ids are found, and these [foreseen, CARRIED]; and what heads are shown."""

    carried: Tensor
    origins: Tensor
    values: Tensor
    foreseen: Tensor
    coming: Tensor
    looks: Shown

    def __bool__(self) -> bool:
        return len(self.carried) + len(self.looks.place) > 0


def marks(samples: list[Sample], starts: list[int]) -> Marks:
    """Of conversations that begin at `starts`."""
    carried, values, foreseen, coming, looks = [], [], [], [], []
    for start, sample in zip(starts, samples, strict=True):
        for place, begin, value in sample.carried:
            carried.append((start + place, start + begin))
            values.append(_filled(value))
        for place, ids in sample.foreseen:
            foreseen.append(start + place)
            coming.append(_filled(ids))
        for look in sample.looks:
            looks.append((look.layer, start + look.place, look.id, look.head, start + look.at))
    at, origins = _columns(carried, 2).unbind(1)
    return Marks(
        at,
        origins,
        _columns(values, CARRIED),
        torch.tensor(foreseen, dtype=torch.long),
        _columns(coming, CARRIED),
        Shown(*_columns(looks, 5).unbind(1)),
    )


def _filled(ids: list[int]) -> list[int]:
    return ids + [NONE] * (CARRIED - len(ids))


def _columns(rows: list, count: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).reshape(-1, count)
