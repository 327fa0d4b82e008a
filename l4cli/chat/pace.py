"""How long reading takes: as measured in this chat, or on this machine before."""

from __future__ import annotations

from l4cli.chat.totals import Totals
from l4cli.speeds import Conditions, OtherWork, RunSpeeds, is_busy, recall, remember

_MIN_PREFILL, _MIN_DECODE = 256, 64  # tokens; rates of fewer are not kept for later chats


class Pace:
    """The speeds of a model under `conditions`; without them, only what this chat has seen."""

    def __init__(self, conditions: Conditions | None = None) -> None:
        self._conditions = conditions
        self._measured = recall(conditions) if conditions else None
        self._others = OtherWork()

    def reading_seconds(self, num_tokens: int, depth: int, totals: Totals) -> float | None:
        """Seconds to compute `num_tokens` behind `depth` others; None if nothing tells."""
        if self._measured:
            seconds = self._measured.prefill_seconds(num_tokens, depth)
            if seconds is not None:
                return seconds
        return num_tokens / totals.prefill_tps if totals.prefill_tps else None

    def keep(self, totals: Totals) -> None:
        """Leave what this chat has seen to later ones, if it is enough to tell."""
        prefill, decode = totals.prefill_tps, totals.decode_tps
        is_enough = (
            totals.num_computed_tokens >= _MIN_PREFILL
            and totals.num_generated_tokens >= _MIN_DECODE
        )
        if self._conditions and prefill and decode and is_enough:
            rates = RunSpeeds(1, prefill, decode)
            remember(self._conditions, rates, busy=is_busy(self._others.load()))
