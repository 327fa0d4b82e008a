"""What the server counts, and the text in Prometheus' format that /metrics returns.

The names follow Prometheus' rules: base units, `_total` for what only grows.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from l4cli.engine.types import StepOutput
from l4cli.serve.embedding.counts import METRICS as EMBEDDING_METRICS
from l4cli.serve.embedding.counts import EmbeddingCounts

_TTFT_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


@dataclass(slots=True)
class Histogram:
    """Counts of values up to each bound, and of all others."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Ends:
    """How answers ended, and how long their first tokens took."""

    reasons: Counter[str] = field(default_factory=Counter)
    ttft: Histogram = field(default_factory=lambda: Histogram(_TTFT_BOUNDS))

    def note(self, reason: str, ttft: float) -> None:
        """Count an answer; `ttft` is the time to its first token, in seconds."""
        self.reasons[reason] += 1
        self.ttft.observe(ttft)


@dataclass(slots=True)
class Counts:
    """What happened since the start, and what is happening now.

    Each attribute is written by one thread only: the first five by the engine's, `clients` by the
    one that serves HTTP, and `rows` by that of the batch whose turn it is.

    clients: the answers to clients.
    rows: the answers to rows of batches. They wait behind clients, so they are told apart.
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    num_running: int = 0
    num_waiting: int = 0
    clients: Ends = field(default_factory=Ends)
    rows: Ends = field(default_factory=Ends)
    started: float = field(default_factory=time.time)

    def count(self, output: StepOutput) -> None:
        """Count the output of a step for one request."""
        self.num_generated_tokens += len(output.token_ids)
        if output.finish_reason:
            self.num_prompt_tokens += output.num_prompt_tokens
            self.num_cached_tokens += output.num_cached_tokens


class Counted(Protocol):
    """What has counts: a served model."""

    name: str
    counts: Counts

    @property
    def num_cells(self) -> int: ...

    @property
    def num_cells_used(self) -> int: ...


# Each metric with its kind, what it says, and where it comes from.
_METRICS: Sequence[tuple[str, str, str, Callable[[Counted], float]]] = (
    (
        "l4_start_time_seconds",
        "gauge",
        "When the server started, in Unix time.",
        lambda model: model.counts.started,
    ),
    (
        "l4_prompt_tokens_total",
        "counter",
        "Tokens of prompts.",
        lambda model: model.counts.num_prompt_tokens,
    ),
    (
        "l4_prompt_tokens_cached_total",
        "counter",
        "Tokens of prompts that were reused instead of computed.",
        lambda model: model.counts.num_cached_tokens,
    ),
    (
        "l4_generated_tokens_total",
        "counter",
        "Generated tokens.",
        lambda model: model.counts.num_generated_tokens,
    ),
    (
        "l4_requests_running",
        "gauge",
        "Requests that are being computed.",
        lambda model: model.counts.num_running,
    ),
    (
        "l4_requests_waiting",
        "gauge",
        "Requests that wait for a slot.",
        lambda model: model.counts.num_waiting,
    ),
    ("l4_kv_cells", "gauge", "Tokens that the KV cache can hold.", lambda model: model.num_cells),
    (
        "l4_kv_cells_used",
        "gauge",
        "Tokens that the KV cache holds, or has reserved.",
        lambda model: model.num_cells_used,
    ),
)


class CountedEmbedder(Protocol):
    """What has counts of embeddings: a served model that makes them."""

    name: str
    counts: EmbeddingCounts


def as_text(models: Sequence[Counted], embedders: Sequence[CountedEmbedder] = ()) -> str:
    """Return the counts of all models in Prometheus' text format 0.0.4."""
    return "\n".join((*_lines(models), *_embedding_lines(embedders))) + "\n"


def _embedding_lines(embedders: Sequence[CountedEmbedder]) -> Iterator[str]:
    for name, kind, about, value in EMBEDDING_METRICS if embedders else ():
        yield from _head(name, kind, about)
        for model in embedders:
            yield _sample(name, value(model.counts), {"model": model.name})


def _lines(models: Sequence[Counted]) -> Iterator[str]:
    for name, kind, about, value in _METRICS:
        yield from _head(name, kind, about)
        for model in models:
            yield _sample(name, value(model), {"model": model.name})
    name = "l4_requests_finished_total"
    yield from _head(name, "counter", "Answers by how they ended.")
    for labels, ends in _ends(models):
        for reason, count in sorted(ends.reasons.items()):
            yield _sample(name, count, {**labels, "reason": reason})
    yield from _head("l4_ttft_seconds", "histogram", "Time to the first token.")
    for labels, ends in _ends(models):
        yield from _histogram("l4_ttft_seconds", ends.ttft, labels)


def _ends(models: Sequence[Counted]) -> Iterator[tuple[dict[str, str], Ends]]:
    """Yield the ends of each model's answers, to clients and in batches, with their labels."""
    for model in models:
        yield {"model": model.name, "source": "client"}, model.counts.clients
        yield {"model": model.name, "source": "batch"}, model.counts.rows


def _histogram(name: str, histogram: Histogram, labels: dict[str, str]) -> Iterator[str]:
    so_far = 0
    for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
        so_far += count
        yield _sample(f"{name}_bucket", so_far, {**labels, "le": str(bound)})
    yield _sample(f"{name}_sum", histogram.total, labels)
    yield _sample(f"{name}_count", so_far, labels)


def _head(name: str, kind: str, about: str) -> Iterator[str]:
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, value: float, labels: dict[str, str]) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
