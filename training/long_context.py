"""Trains attention over long documents at the price of short ones.

A document of a few hundred tokens is spread over up to 40k positions: its positions jump, which
leaves gaps. A gap is filled with cached keys and values of other documents, which earlier batches
computed (`key_value_memory.py`). A query then has thousands of places to choose from, in its chunk
and before it, though only a few hundred tokens are computed. Only some places of a gap are filled.
Each stands for several: the logarithm of their number is added to its scores.
"""

from dataclasses import dataclass
from math import ceil, log
from random import Random

import torch
from torch import Tensor

from training.render import Sample

CONTIGUOUS = 0.2  # share of the documents that have no gaps
ALL_APART = 0.4  # share of the others with one gap, between the document and its first question
UNFILLED = 0.25  # share of the documents with gaps whose gaps stay empty
# The summed size of a document's gaps, in positions: from NEAREST to FARTHEST; from CHUNK on if the
# one gap separates the document from the question, so that no chunk holds both.
NEAREST, CHUNK, FARTHEST = 500, 8192, 40960
FILLED = 16384  # the most places that are filled
PAIRS = 24_000_000  # the most pairs of a filled place and a document's token; they are the cost
HEADER = 6  # about how many tokens open the conversation before the document begins


@dataclass(frozen=True)
class GapFilling:
    """The filled places in one sequence's gaps.

    positions: the places' positions, rising [places].
    source: which token of the memory stands at each place, as a share of the memory's size
        [places].
    weight: how many positions of the gap each place stands for.
    """

    positions: Tensor
    source: Tensor
    weight: float

    def thinned(self, low: int, high: int, most: int) -> "GapFilling | None":
        """Return at most `most` of the places with low <= position < high, evenly selected.

        None if there are none.
        """
        bounds = torch.searchsorted(self.positions, torch.tensor([low, high]))
        start, end = bounds.tolist()
        if start == end:
            return None
        stride = ceil((end - start) / most)
        chosen = slice(start, end, stride)
        return GapFilling(self.positions[chosen], self.source[chosen], self.weight * stride)

    def bias(self, positions: Tensor, dtype: torch.dtype) -> Tensor:
        """Return what is added to the scores [queries, places] of queries at `positions`."""
        seen = self.positions < positions[:, None]
        return torch.where(seen, log(self.weight), float("-inf")).to(dtype)

    def of(self, stored: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the places' keys and values [kv_heads, places, head_dim] in one layer."""
        keys, values = stored
        tokens = (self.source * keys.shape[1]).long()
        return keys[:, tokens], values[:, tokens]


@dataclass(frozen=True)
class Placement:
    """A conversation's positions, rising [tokens], and what fills their gaps."""

    positions: Tensor
    filling: GapFilling | None = None


def contiguous(sample: Sample) -> Placement:
    """Return positions without gaps."""
    return Placement(torch.arange(len(sample.ids)))


def spread(rng: Random, sample: Sample, sentence_ends: set[int]) -> Placement:
    """Spread a document over many times its length, by one to four gaps.

    The gaps mostly stand after a sentence (after an id of `sentence_ends`), and are mostly filled.
    Every distance occurs, the RoPE layers lose sight at chunk borders, and the global layers must
    find the facts among everything in the gaps. In many documents the only gap separates the text
    from the first question by more than a chunk; then only a global layer can answer.
    """
    if rng.random() < CONTIGUOUS:
        return contiguous(sample)
    document = range(HEADER, sample.answers[0][0])
    spots = [i for i in document if sample.ids[i - 1] in sentence_ends]
    count, nearest = rng.randint(1, 4), NEAREST
    if spots and rng.random() < ALL_APART:
        count, nearest, spots = 1, CHUNK, spots[-1:]
    elif rng.random() < 0.1 or len(spots) < count:
        spots = list(document)
    total = nearest * (FARTHEST / nearest) ** rng.random()
    shares = [rng.expovariate(1) for _ in range(count)]
    steps = torch.ones(len(sample.ids), dtype=torch.long)
    steps[0] = 0
    gaps = []
    for spot, share in zip(sorted(rng.sample(spots, count)), shares, strict=True):
        size = 1 + int(total * share / sum(shares))
        gaps.append((spot, size))
        steps[spot] += size
    positions = steps.cumsum(0)
    if rng.random() < UNFILLED:
        return Placement(positions)
    most = min(FILLED, PAIRS // len(sample.ids))
    ranges = [(int(positions[i]) - size, size) for i, size in gaps]
    return Placement(positions, fill(rng, ranges, most))


def fill(rng: Random, gaps: list[tuple[int, int]], most: int) -> GapFilling:
    """Draw at most `most` places from gaps that are given as (first position, size)."""
    total = sum(size for _, size in gaps)
    count = min(total, most)
    generator = torch.Generator().manual_seed(rng.getrandbits(60))
    places = torch.cat([torch.arange(begin, begin + size) for begin, size in gaps])
    chosen = torch.randperm(total, generator=generator)[:count].sort().values
    return GapFilling(places[chosen], torch.rand(count, generator=generator), total / count)
