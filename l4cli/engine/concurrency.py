"""How many sequences to run at once: found out while the work is done. Pure.

More sequences share each pass over the weights, until arithmetic or memory is the limit; beyond
that they only wait for each other, and on some machines they are slower together. So all that fit
begin, and after a few steps half of them pause for a few: if what then remains decodes faster, and
still does when all have been timed once more, they go first. The second look is since machines
stumble: a few slow steps must not halve the rest of a run. No token is spent on measuring, but
those that paused may be alone at the end, so a trial that goes clearly worse ends at once.
"""

from __future__ import annotations

_SAMPLES = 3  # steps timed at each number; the quickest counts
_WORTHWHILE = 1.03
_HOPELESS = 0.9
_FEWEST = 8  # not worth dividing


class ConcurrencyTuner:
    """`limit` is the number of sequences to run now, at most `n_seq_max`."""

    def __init__(self, n_seq_max: int) -> None:
        self.limit = n_seq_max
        self.is_settled = False
        self._best, self._best_rate = n_seq_max, 0.0
        self._half, self._half_rate = 0, 0.0  # a trial that went better
        self._timed = 0  # the number of sequences that `_seconds` are of
        self._seconds: list[float] = []

    def observe(self, num_sequences: int, num_tokens: int, seconds: float) -> None:
        """Take in a decode of `num_tokens` for `num_sequences`; prompts among them are no sign."""
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
        """Try half; if that did better, time the others once more, and only then go on from it."""
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
