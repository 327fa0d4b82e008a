"""What is counted of embeddings, for /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class EmbeddingCounts:
    """What happened since the start, and what is happening now.

    The first three are written by the model's thread only, the others by the one that serves HTTP.
    """

    num_inputs: int = 0
    num_tokens: int = 0
    num_batches: int = 0
    num_requests: int = 0
    num_open: int = 0
    started: float = field(default_factory=time.time)


Metric = tuple[str, str, str, Callable[[EmbeddingCounts], float]]
# Each metric with its kind, what it says, and where it comes from.
METRICS: Sequence[Metric] = (
    (
        "l4_embedding_requests_total",
        "counter",
        "Requests for embeddings that were answered.",
        lambda counts: counts.num_requests,
    ),
    (
        "l4_embedding_requests_open",
        "gauge",
        "Requests for embeddings that wait, or are being computed.",
        lambda counts: counts.num_open,
    ),
    (
        "l4_embedding_inputs_total",
        "counter",
        "Inputs whose embedding was computed.",
        lambda counts: counts.num_inputs,
    ),
    (
        "l4_embedding_tokens_total",
        "counter",
        "Tokens of these inputs.",
        lambda counts: counts.num_tokens,
    ),
    (
        "l4_embedding_batches_total",
        "counter",
        "Batches in which they were computed.",
        lambda counts: counts.num_batches,
    ),
)
