"""Times a backend: prefill and decode alone, without l4's engine.

It measures like llama-bench, so the figures can be compared: random tokens, whole batches, and the
time until the last logits are available. The tokens before the measured ones are computed once.
Each repeat rolls back to them, by the engine's rule for an exact rollback (`exact_prefix`).
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from l4cli.bench.grid import Point, Stage
from l4cli.engine.types import Backend, BatchItem


class TimedBackend(Backend, Protocol):
    """A backend that can be waited for, through its logits."""

    def logits(self, output: int) -> object:
        """Wait for the `output`-th logits of the last decode, and return them."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds of each repeat of one point; a repeat computes `num_tokens` tokens."""

    point: Point
    n_ubatch: int
    num_tokens: int
    seconds: tuple[float, ...]

    @property
    def tps(self) -> float:
        """Tokens per second in the median repeat."""
        return self.num_tokens / statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the difference between the slowest and the fastest repeat, divided by the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / statistics.median(self.seconds)


class Stopwatch:
    """Measures the points of one stage, on a backend that was made for it."""

    def __init__(
        self,
        backend: TimedBackend,
        n_vocab: int,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._backend, self._n_vocab, self._clock = backend, n_vocab, clock
        self._rng = random.Random(0)

    def warm_up(self, num_tokens: int) -> None:
        """Do a prefill and a decode once without timing them: the first ones are slower."""
        self._prefill(Point("prefill", 1, 0), num_tokens)
        self._decode(Point("decode", 1, 0), 1)

    def measure(self, stage: Stage, point: Point, repeat: int) -> Timing:
        """Time a point `repeat` times. Raises DecodeAbortedError after an interrupt."""
        once = self._prefill if point.kind == "prefill" else self._decode
        num_tokens = stage.num_tokens(point)
        seconds = tuple(once(point, num_tokens) for _ in range(repeat))
        return Timing(point, stage.n_ubatch, num_tokens * point.batch, seconds)

    def _prefill(self, point: Point, num_tokens: int) -> float:
        self._set_depth([0], point.depth)
        tokens = self._tokens(num_tokens)
        started = self._clock()
        self._compute(0, point.depth, tokens)
        return self._clock() - started

    def _decode(self, point: Point, num_tokens: int) -> float:
        sequences = range(point.batch)
        self._set_depth(sequences, point.depth)
        steps = [self._tokens(point.batch) for _ in range(num_tokens)]
        started = self._clock()
        for pos, step in enumerate(steps, point.depth):
            items = zip(sequences, step, strict=True)
            self._backend.decode([BatchItem(seq, pos, [token], True) for seq, token in items])
            self._wait()
        return self._clock() - started

    def _set_depth(self, sequences: Sequence[int], depth: int) -> None:
        """Make each sequence exactly `depth` tokens long.

        Sequence 0 is computed, the others are forked from it.
        """
        backend = self._backend
        for seq_id in sequences:
            exact = min(depth, backend.num_computed(seq_id))
            exact = backend.exact_prefix(seq_id, exact)
            if seq_id and exact < depth:
                backend.truncate(seq_id, 0)
                backend.fork(0, seq_id, depth)
                continue
            backend.truncate(seq_id, exact)
            if exact < depth:
                self._compute(seq_id, exact, self._tokens(depth - exact))

    def _compute(self, seq_id: int, pos: int, tokens: Sequence[int]) -> None:
        n_batch = self._backend.n_batch
        for start in range(0, len(tokens), n_batch):
            piece = tokens[start : start + n_batch]
            is_last = start + n_batch >= len(tokens)
            self._backend.decode([BatchItem(seq_id, pos + start, piece, is_last)])
        self._wait()

    def _wait(self) -> None:
        """Wait for the logits: a GPU still computes after `decode` has returned."""
        self._backend.logits(0)

    def _tokens(self, count: int) -> list[int]:
        """Return random tokens of the vocabulary, which use all experts of a layer evenly."""
        return [self._rng.randrange(self._n_vocab) for _ in range(count)]
