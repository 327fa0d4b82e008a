"""Finds the best number of sequences to run at once, during the work itself. Pure.

More sequences share each pass over the weights until arithmetic or memory is the limit. Beyond
that they only wait for each other, and on some machines they are slower together. So all sequences
that fit begin, and after a few steps half of them pause for a few steps. If the other half decodes
faster, and still does when all have been timed once more, that half goes first. The second
measurement is needed because machines stumble: a few slow steps must not halve the rest of a run.
No token is spent on measuring. But the sequences that paused may run alone at the end, so a trial
that is clearly worse ends at once.
"""

from __future__ import annotations

_SAMPLES = 3  # steps timed at each number of sequences; the fastest counts
_WORTHWHILE = 1.03  # half of the sequences must be faster by this factor
_HOPELESS = 0.9  # a trial whose rate is below this share of the best one ends at once
_FEWEST = 8  # sequences; fewer are not halved


class ConcurrencyTuner:
    """Tunes `limit`, the number of sequences to run now, from 1 to `n_seq_max`."""

    def __init__(self, n_seq_max: int) -> None:
        self.limit = n_seq_max
        self.is_settled = False
        self._best, self._best_rate = n_seq_max, 0.0
        self._half, self._half_rate = 0, 0.0  # the last number that was tried, and its rate
        self._timed = 0  # number of sequences in the steps that `_seconds` holds
        self._seconds: list[float] = []

    def observe(self, num_sequences: int, num_tokens: int, seconds: float) -> None:
        """Record a decode of `num_tokens` for `num_sequences`; ignore it if prompts were in it."""
        if self.is_settled or num_tokens != num_sequences or num_sequences < _FEWEST // 2:
            return
        if num_sequences != self._timed:
            self._timed = num_sequences
            self._seconds.clear()
        self._seconds.append(seconds)
        rate = num_sequences / min(self._seconds)
        if len(self._seconds) == _SAMPLES or rate < self._best_rate * _HOPELESS:
            self._judge(num_sequences, rate)

    def _judge(self, num_sequences: int, rate: float) -> None:
        """Choose the next `limit` after a measurement.

        First try half of the sequences. If half was faster, time all of them once more before
        continuing with half.
        """
        if self.limit != self._best:
            self._half, self._half_rate = num_sequences, rate
            self.limit = self._best
            self.is_settled = rate < self._best_rate * _WORTHWHILE
            return
        self._best_rate = max(self._best_rate, rate)
        if self._half:
            if self._half_rate < self._best_rate * _WORTHWHILE:
                self.is_settled = True
                return
            self._best, self._best_rate, self._half = self._half, self._half_rate, 0
            num_sequences = self._best
        self.is_settled = num_sequences < _FEWEST
        self.limit = self._best if self.is_settled else num_sequences // 2
