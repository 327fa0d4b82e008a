"""The targets of the auxiliary losses for a whole batch, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.attention_targets import GROUP, NO_ID
from training.render import Sample


class TargetColumns(NamedTuple):
    """The fields of attention targets [targets]; places are indices of the batch's tokens."""

    layer: Tensor
    query: Tensor
    next_id: Tensor
    head: Tensor
    key: Tensor

    def where(self, wanted: Tensor) -> "TargetColumns":
        """Return the targets that a mask [targets] selects."""
        return TargetColumns(*(column[wanted] for column in self))


@dataclass(frozen=True)
class BatchTargets:
    """All targets of a batch; places are indices of the batch's tokens.

    value_places: where a carried value must be known [values].
    value_begins: where that value stands [values].
    value_ids: the value's first ids [values, GROUP], NO_ID where none is asked for.
    next_places: where the next ids of an answer must be known [groups].
    next_ids: these ids [groups, GROUP], NO_ID where none is asked for.
    attention: where heads must attend.
    """

    value_places: Tensor
    value_begins: Tensor
    value_ids: Tensor
    next_places: Tensor
    next_ids: Tensor
    attention: TargetColumns

    def __bool__(self) -> bool:
        return len(self.value_places) + len(self.attention.query) > 0


def batch_targets(samples: list[Sample], starts: list[int]) -> BatchTargets:
    """Return the targets of conversations that begin at the tokens `starts` of a batch."""
    values, value_ids, places, ids, attention = [], [], [], [], []
    for start, sample in zip(starts, samples, strict=True):
        for value in sample.values:
            values.append((start + value.place, start + value.begin))
            value_ids.append(_padded(value.ids))
        for following in sample.next_ids:
            places.append(start + following.place)
            ids.append(_padded(following.ids))
        for target in sample.attention:
            moved = target._replace(query=start + target.query, key=start + target.key)
            attention.append(moved)
    value_places, value_begins = _columns(values, 2).unbind(1)
    return BatchTargets(
        value_places,
        value_begins,
        _columns(value_ids, GROUP),
        torch.tensor(places, dtype=torch.long),
        _columns(ids, GROUP),
        TargetColumns(*_columns(attention, 5).unbind(1)),
    )


def _padded(ids: list[int]) -> tuple[int, ...]:
    return (*ids, *[NO_ID] * (GROUP - len(ids)))


def _columns(rows: Sequence[tuple[int, ...]], count: int) -> Tensor:
    return torch.tensor(rows, dtype=torch.long).reshape(-1, count)
