"""Long documents that cost what short ones do: where a document's positions leap, what they leap
over is filled with other documents, as keys and values that earlier batches computed.

A query then has thousands of places to choose from, in its chunk and before it, and only a few
hundred tokens are computed. Of the places some are drawn; each counts for as many as it stands for,
by the logarithm of their number on its score."""

from dataclasses import dataclass
from math import ceil, log

import torch
from torch import Tensor

MEMORY = 20480  # tokens

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
    """The newest keys and values of documents, a pair a layer, each written over the oldest."""

    def __init__(self) -> None:
        self.layers: list[KeysValues] = []
        self.filled, self.next = 0, 0

    def recall(self, backdrops: list[Backdrop | None], kept: Tensor) -> Recall:
        held = self.layers if self.filled else []
        known = [(k[:, : self.filled], v[:, : self.filled]) for k, v in held]
        return Recall(known, backdrops, kept, [])

    def add(self, noted: list[KeysValues]) -> None:
        """One pass's, all layers of it."""
        if not self.layers:
            self.layers = [(_room(k), _room(v)) for k, v in noted]
        count = noted[0][0].shape[1]
        places = (torch.arange(count)[-MEMORY:] + self.next) % MEMORY
        for (ks, vs), (k, v) in zip(self.layers, noted, strict=True):
            ks[:, places] = k[:, -MEMORY:]
            vs[:, places] = v[:, -MEMORY:]
        self.filled = min(MEMORY, self.filled + count)
        self.next = (self.next + count) % MEMORY


def _room(like: Tensor) -> Tensor:
    return like.new_empty(like.shape[0], MEMORY, like.shape[2])
