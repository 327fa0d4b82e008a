"""Long documents that cost what short ones do: where a document's positions leap, what they leap
over is filled with other documents, as keys and values that earlier batches computed.

A query then has thousands of places to choose from, in its chunk and before it, and only a few
hundred tokens are computed. Of the places some are drawn; each counts for as many as it stands for,
by the logarithm of their number on its score."""

from dataclasses import dataclass
from math import ceil, log

import torch
from torch import Tensor

MEMORY = 12288  # tokens

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Backdrop:
    """Some of the places that a sequence's positions leap over: their positions [some], rising;
    which token of the memory stands at each [some], as a share of its size; and how many places
    one stands for."""

    positions: Tensor
    drawn: Tensor
    each: float

    def part(self, low: int, high: int, most: int) -> "Backdrop | None":
        """At most so many of those with low <= position < high, evenly taken."""
        bounds = torch.searchsorted(self.positions, torch.tensor([low, high]))
        start, end = bounds.tolist()
        if start == end:
            return None
        stride = ceil((end - start) / most)
        chosen = slice(start, end, stride)
        return Backdrop(self.positions[chosen], self.drawn[chosen], self.each * stride)

    def bias(self, positions: Tensor, dtype: torch.dtype) -> Tensor:
        """What it adds to the scores [queries, some] of the queries at these positions."""
        seen = self.positions < positions[:, None]
        return torch.where(seen, log(self.each), float("-inf")).to(dtype)

    def of(self, known: KeysValues) -> KeysValues:
        """Its keys and values [kv_heads, some, head_dim]."""
        keys, values = known
        tokens = (self.drawn * keys.shape[1]).long()
        return keys[:, tokens], values[:, tokens]


@dataclass(frozen=True)
class Recall:
    """One forward pass's dealings with the memory: each layer's keys, not yet rotated, and values;
    the backdrop of each sequence; and which tokens [kept] of the pass are to be remembered, whose
    keys and values the layers leave in `noted`."""

    known: list[KeysValues]
    backdrops: list[Backdrop | None]
    kept: Tensor
    noted: list[KeysValues]

    def note(self, keys: Tensor, values: Tensor) -> None:
        pair = (keys.detach()[:, self.kept], values.detach()[:, self.kept])
        self.noted.append((pair[0].bfloat16(), pair[1].bfloat16()))


class Memory:
    """The newest keys and values of documents, a pair a layer."""

    def __init__(self) -> None:
        self.layers: list[KeysValues] = []

    def recall(self, backdrops: list[Backdrop | None], kept: Tensor) -> Recall:
        return Recall(self.layers, backdrops, kept, [])

    def add(self, noted: list[KeysValues]) -> None:
        """One pass's, all layers of it."""
        if not self.layers:
            self.layers = noted
            return
        pairs = zip(self.layers, noted, strict=True)
        self.layers = [(_newest(ks, k), _newest(vs, v)) for (ks, vs), (k, v) in pairs]


def _newest(old: Tensor, new: Tensor) -> Tensor:
    return torch.cat([old, new], 1)[:, -MEMORY:]
