"""Where a batch's tokens stand, and which of them see each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.backdrop import Backdrop
from training.parts import Shape

# Of a backdrop's places, the most that the queries see of a chunk, and of a global layer that all
# tokens pass; the last layer has few queries, and sees all.
NARROW = 384
NARROWED = 2560


class Angles:
    """By which RoPE turns each pair of dimensions at some positions."""

    def __init__(self, positions: Tensor, shape: Shape) -> None:
        pairs = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        angles = positions.float()[:, None] * shape.rope_theta**-pairs
        self.turns = torch.polar(torch.ones(()), angles)  # [positions, pairs]

    def rotate(self, x: Tensor) -> Tensor:
        """RoPE over neighbouring pairs (2i, 2i+1), as Llama 4 and ggml's normal mode do it."""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turns).flatten(-2)


@dataclass(frozen=True)
class Segment:
    """Neighbouring tokens, begin to end, that see each other, and what else they see."""

    begin: int
    end: int
    backdrop: Backdrop | None = None

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Places:
    """Where a batch's tokens stand: their positions and angles, the queries' temperature, and the
    segments within which tokens see each other: sequences, the same with less of their backdrops,
    and the sequences' chunks."""

    positions: Tensor
    angles: Angles
    temperature: Tensor
    sequences: list[Segment]
    narrowed: list[Segment]
    chunks: list[Segment]


def places(
    shape: Shape, positions: Tensor, starts: list[int], backdrops: list[Backdrop | None] | None
) -> Places:
    """Positions rise within a sequence, and may leap: a leap puts far apart what is cheap to train
    close by, and a backdrop fills it."""
    steps = (positions + 1) // shape.temperature_floor
    temperature = torch.log1p(steps.float()) * shape.temperature_scale + 1
    behind = backdrops or [None] * len(starts)
    bounds = pairwise([*starts, len(positions)])
    sequences = [Segment(a, b, own) for (a, b), own in zip(bounds, behind, strict=True)]
    return Places(
        positions,
        Angles(positions, shape),
        temperature[:, None],
        sequences,
        [_narrowed(positions, sequence) for sequence in sequences],
        [chunk for sequence in sequences for chunk in _chunks(positions, sequence, shape.chunk)],
    )


def _narrowed(positions: Tensor, sequence: Segment) -> Segment:
    behind = sequence.backdrop
    part = behind.part(0, int(positions[sequence.end - 1]), NARROWED) if behind else None
    return Segment(sequence.begin, sequence.end, part)


def _chunks(positions: Tensor, sequence: Segment, size: int) -> Iterator[Segment]:
    own = positions[sequence.begin : sequence.end] // size
    edges = (own.diff().nonzero().flatten() + sequence.begin + 1).tolist()
    for begin, end in pairwise([sequence.begin, *edges, sequence.end]):
        low = int(positions[begin]) // size * size
        behind = sequence.backdrop
        part = behind.part(low, int(positions[end - 1]), NARROW) if behind else None
        yield Segment(begin, end, part)
