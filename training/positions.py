"""The positions of a batch's tokens, and which tokens attend to each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.dimensions import Dimensions
from training.long_context import GapFilling

# The most filled places that the queries of a chunk see, and those of a global layer that computes
# all tokens. The last layer computes few queries and sees all places.
CHUNK_PLACES = 384
GLOBAL_PLACES = 2560


class RotaryAngles:
    """The angles by which RoPE rotates each pair of dimensions at some positions."""

    def __init__(self, positions: Tensor, dimensions: Dimensions) -> None:
        pairs = torch.arange(0, dimensions.head_dim, 2).float() / dimensions.head_dim
        angles = positions.float()[:, None] * dimensions.rope_theta**-pairs
        self.rotations = torch.polar(torch.ones(()), angles)  # [positions, pairs]

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate neighbouring pairs (2i, 2i+1), as Llama 4 and ggml's normal RoPE mode do."""
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.rotations).flatten(-2)


@dataclass(frozen=True)
class Segment:
    """Tokens from `begin` to `end` that attend to each other, and to a filling of their gaps."""

    begin: int
    end: int
    filling: GapFilling | None = None

    @property
    def length(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class BatchPositions:
    """A batch's positions, and what follows from them in every layer.

    positions: [tokens].
    angles: of RoPE.
    temperature: the factor of a global layer's queries [tokens, 1].
    sequences: one segment for each sequence.
    thinned_sequences: the same with at most GLOBAL_PLACES filled places.
    chunks: the sequences cut at chunk borders, with at most CHUNK_PLACES filled places.
    """

    positions: Tensor
    angles: RotaryAngles
    temperature: Tensor
    sequences: list[Segment]
    thinned_sequences: list[Segment]
    chunks: list[Segment]


def batch_positions(
    dimensions: Dimensions,
    positions: Tensor,
    starts: list[int],
    fillings: list[GapFilling | None] | None,
) -> BatchPositions:
    """Return the positions of sequences that begin at `starts`, with what fills their gaps.

    Positions rise within a sequence, and may jump (see `long_context.py`).
    """
    steps = (positions + 1) // dimensions.temperature_floor
    temperature = torch.log1p(steps.float()) * dimensions.temperature_scale + 1
    bounds = pairwise([*starts, len(positions)])
    own = fillings or [None] * len(starts)
    sequences = [Segment(a, b, filling) for (a, b), filling in zip(bounds, own, strict=True)]
    chunk = dimensions.chunk
    return BatchPositions(
        positions,
        RotaryAngles(positions, dimensions),
        temperature[:, None],
        sequences,
        [_thinned(positions, sequence) for sequence in sequences],
        [part for sequence in sequences for part in _chunks(positions, sequence, chunk)],
    )


def _thinned(positions: Tensor, sequence: Segment) -> Segment:
    filling, end = sequence.filling, int(positions[sequence.end - 1])
    part = filling.thinned(0, end, GLOBAL_PLACES) if filling else None
    return Segment(sequence.begin, sequence.end, part)


def _chunks(positions: Tensor, sequence: Segment, size: int) -> Iterator[Segment]:
    own = positions[sequence.begin : sequence.end] // size
    edges = (own.diff().nonzero().flatten() + sequence.begin + 1).tolist()
    for begin, end in pairwise([sequence.begin, *edges, sequence.end]):
        low = int(positions[begin]) // size * size
        filling = sequence.filling
        part = filling.thinned(low, int(positions[end - 1]), CHUNK_PLACES) if filling else None
        yield Segment(begin, end, part)
