"""How many sequences to run at once: found out while the work is done. Pure.

More sequences share each pass over the weights, until arithmetic, attention or memory is the limit;
where that is depends on the model, the machine and the rows. So it is slow start, as in TCP: begin
with few, double while that makes decoding faster, else go back. No token is spent on measuring.
"""

from __future__ import annotations

_START = 16
_SAMPLES = 2  # steps timed at each number; the quicker counts
_WORTHWHILE = 1.03


class ConcurrencyTuner:
    """`limit` is the number of sequences to run now, at most `n_seq_max`."""

    def __init__(self, n_seq_max: int) -> None:
        self.n_seq_max = n_seq_max
        self.limit = min(_START, n_seq_max)
        self.is_settled = n_seq_max <= _START
        self._best_rate, self._best = 0.0, self.limit
        self._seconds: list[float] = []

    def observe(self, num_sequences: int, num_tokens: int, seconds: float) -> None:
        """Take in a decode of `num_tokens` for `num_sequences`; prompts among them are no sign."""
        if self.is_settled or num_tokens != num_sequences or num_sequences != self.limit:
            return
        self._seconds.append(seconds)
        if len(self._seconds) < _SAMPLES:
            return
        rate = self.limit / min(self._seconds)
        self._seconds.clear()
        if rate < self._best_rate * _WORTHWHILE:
            self.limit, self.is_settled = self._best, True
            return
        self._best_rate, self._best = rate, self.limit
        self.is_settled = self.limit == self.n_seq_max
        self.limit = min(2 * self.limit, self.n_seq_max)
