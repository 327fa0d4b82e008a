"""Embeddings: which inputs are computed together, and what is made of their vectors. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Pooling = Literal["mean", "cls", "last"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

Vectors = npt.NDArray[np.float32]


def batches_of(lengths: Sequence[int], n_batch: int, n_seq_max: int) -> Iterator[list[int]]:
    """Yield the indices of inputs that are computed together, each input once.

    Inputs of like length come together, because each token of a batch costs attention over all.

    lengths: tokens of each input, at most `n_batch`.
    n_batch: most tokens of a batch.
    n_seq_max: most inputs of a batch.
    """
    batch: list[int] = []
    left = n_batch
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (lengths[index] > left or len(batch) == n_seq_max):
            yield batch
            batch, left = [], n_batch
        batch.append(index)
        left -= lengths[index]
    if batch:
        yield batch


def finished(vectors: Vectors, dimensions: int | None = None) -> Vectors:
    """Cut vectors [n, n_embd] to their first `dimensions`, and give each the length 1.

    Models that are trained for it (Matryoshka) put the most telling numbers first. A vector of
    zeros stays as it is.
    """
    cut = vectors[:, :dimensions].astype(np.float64)
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    unit: Vectors = np.divide(cut, norms, out=cut, where=norms > 0).astype(np.float32)
    return unit


def bad_rows(vectors: Vectors) -> Iterable[int]:
    """The indices of the vectors that hold something that is no finite number."""
    found: list[int] = np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()
    return found
