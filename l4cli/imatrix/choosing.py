"""Which chunk is read next, and which experts have too few tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from l4cli.imatrix.sums import Counts

_UNSEEN = 0.5  # tokens a chunk that are expected where a text has sent none so far


@dataclass(slots=True)
class Routed:
    """Which experts the chunks of each text were sent to.

    tokens: by text, the tokens of all experts of all layers, one behind the other.
    """

    tokens: dict[int, Counts] = field(default_factory=dict)

    def note(self, source: int, before: Counts, after: Counts) -> None:
        """Take what a chunk of a text added to all experts' tokens."""
        added = after - before if len(before) else after
        known = self.tokens.get(source)
        self.tokens[source] = added if known is None else known + added


@dataclass(frozen=True, slots=True)
class Policy:
    """How far to go.

    ends: for each text, the number behind its last chunk.
    most: chunks in all; None for all there are.
    least: tokens that every expert is to have; then reading ends. None: reading does not end
        before the chunks do.
    """

    ends: Sequence[int]
    most: int | None = None
    least: int | None = None

    @property
    def total(self) -> int:
        """Chunks that are read at most."""
        return self.ends[-1] if self.most is None else min(self.most, self.ends[-1])

    def next(self, done: Sequence[int], experts: Counts, routed: Routed) -> int | None:
        """Return the chunk to read next; None at the end.

        Without `least`, chunks are read in their order. With it, each text's first chunk is read;
        then always the next one of the text by which the last expert would have its tokens soonest,
        going by the text's chunks so far; of equals, the one that fills most of what is lacking.

        done: the chunks that were read. experts: tokens of all experts, as `flat` gives them.
        routed: which text's chunks they were.
        """
        if len(done) >= self.total:
            return None
        starts = [0, *self.ends[:-1]]
        numbers = [0] * len(starts)
        for chunk in done:
            numbers[self._source_of(chunk)] += 1
        if self.least is None:
            return len(done)
        lacking = np.maximum(0, self.least - experts)
        if len(experts) and not lacking.any():
            return None
        left = [at for at, start in enumerate(starts) if start + numbers[at] < self.ends[at]]
        unread = [at for at in left if not numbers[at]]
        if unread:
            return starts[unread[0]]

        def promise(at: int) -> tuple[float, float]:
            expected = routed.tokens[at] / numbers[at]
            chunks_to_go = (lacking / (expected + _UNSEEN)).max()
            return -float(chunks_to_go), float(np.minimum(lacking, expected).sum())

        best = max(left, key=promise)  # the first of equals
        return starts[best] + numbers[best]

    def _source_of(self, chunk: int) -> int:
        return next(at for at, end in enumerate(self.ends) if chunk < end)


def flat(experts: Mapping[str, Counts]) -> Counts:
    """Return the tokens of all experts, layer behind layer; empty if there are none."""
    return np.concatenate(list(experts.values())) if experts else np.zeros(0, np.int64)


def cold_lines(experts: Mapping[str, Counts], least: int) -> Iterator[str]:
    """Yield a line for each layer that has experts with fewer tokens than `least`."""
    for layer, counts in experts.items():
        cold = np.flatnonzero(counts < least)
        if len(cold):
            named = ", ".join(f"{expert} ({counts[expert]:,})" for expert in cold[:12])
            more = f" and {len(cold) - 12} more" if len(cold) > 12 else ""
            yield f"{layer}: {named}{more}"
