"""Estimates how long prefill takes, from earlier measurements or from this chat."""

from __future__ import annotations

from l4cli.chat.totals import Totals
from l4cli.speeds import Conditions, OtherWork, RunSpeeds, is_busy, recall, remember

_MIN_PREFILL, _MIN_DECODE = 256, 64  # tokens: rates from fewer are not saved for later chats


class Pace:
    """The speeds of a model under `conditions` (hardware and settings).

    With None for `conditions`, only the speeds of this chat count and none are saved.
    """

    def __init__(self, conditions: Conditions | None = None) -> None:
        self._conditions = conditions
        self._measured = recall(conditions) if conditions else None
        self._others = OtherWork()

    def reading_seconds(self, num_tokens: int, depth: int, totals: Totals) -> float | None:
        """Return the seconds to prefill `num_tokens` after `depth` other tokens.

        The rate measured earlier on this machine counts, if there is one; else the rate of this
        chat (`totals`). None if there is neither.
        """
        if self._measured:
            seconds = self._measured.prefill_seconds(num_tokens, depth)
            if seconds is not None:
                return seconds
        return num_tokens / totals.prefill_tps if totals.prefill_tps else None

    def keep(self, totals: Totals) -> None:
        """Save this chat's speeds for later chats, if it has computed enough tokens."""
        prefill, decode = totals.prefill_tps, totals.decode_tps
        is_enough = (
            totals.num_computed_tokens >= _MIN_PREFILL
            and totals.num_generated_tokens >= _MIN_DECODE
        )
        if self._conditions and prefill and decode and is_enough:
            rates = RunSpeeds(1, prefill, decode)
            remember(self._conditions, rates, busy=is_busy(self._others.load()))
