"""Groups the tensors of a model by purpose. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

# Purposes, and the text in a tensor's name that shows each; the first match decides.
_GROUPS = (
    ("routed experts", "_exps."),
    ("shared experts", "_shexp."),
    ("router", "ffn_gate_inp"),
    ("norms", "norm"),
    ("attention", ".attn_"),
    ("feed forward", ".ffn_"),
    ("embeddings", "token_embd"),
    ("output", "output."),
)


@dataclass(frozen=True)
class DescribedTensor:
    """A tensor: `shape` in ne order; `type` is a qtype or, in a checkpoint, a dtype."""

    name: str
    shape: tuple[int, ...]
    type: str
    n_bytes: int
    file: str

    @property
    def n_params(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class TensorGroup:
    """The tensors of one purpose: sums over them, and how many of them have each type."""

    name: str
    n_tensors: int
    n_params: int
    n_bytes: int
    types: Mapping[str, int]

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.n_bytes / self.n_params


def group_tensors(tensors: Iterable[DescribedTensor]) -> tuple[TensorGroup, ...]:
    """The tensors grouped by purpose, the group with the most bytes first."""
    members: dict[str, list[DescribedTensor]] = {}
    for tensor in tensors:
        group = next((group for group, part in _GROUPS if part in tensor.name), "others")
        members.setdefault(group, []).append(tensor)
    groups = []
    for name, each in members.items():
        types = sorted({tensor.type for tensor in each})
        counts = {type_: sum(tensor.type == type_ for tensor in each) for type_ in types}
        groups.append(
            TensorGroup(
                name=name,
                n_tensors=len(each),
                n_params=sum(tensor.n_params for tensor in each),
                n_bytes=sum(tensor.n_bytes for tensor in each),
                types=dict(sorted(counts.items(), key=lambda item: -item[1])),
            )
        )
    return tuple(sorted(groups, key=lambda group: -group.n_bytes))
