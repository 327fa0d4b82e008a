"""Measures the prefill and decode rates of a run from the steps of its engine.

This module is pure: times are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from l4cli.speeds import Speeds

_MIN_TOKENS = 32  # needed of each kind; with fewer, a rate says more of the clock than the machine


@dataclass(slots=True)
class SpeedMeter:
    """Separates prefill from decode time in the steps of a run, which compute both together.

    Steps that only decode give the decode rate. For the other steps, the time that their decoded
    tokens take at that rate is subtracted; the rest was prefill.
    """

    decode_seconds: float = 0.0
    num_decode_tokens: int = 0
    mixed_seconds: float = 0.0
    num_mixed_decode_tokens: int = 0

    def add(self, seconds: float, num_decode_tokens: int, *, has_prefill: bool) -> None:
        """Add one step.

        seconds: the step's duration.
        num_decode_tokens: the tokens it sampled, without the first token after each prompt.
        has_prefill: whether it prefilled prompt tokens.
        """
        if has_prefill:
            self.mixed_seconds += seconds
            self.num_mixed_decode_tokens += num_decode_tokens
        else:
            self.decode_seconds += seconds
            self.num_decode_tokens += num_decode_tokens

    def speeds(self, num_prefill_tokens: int) -> Speeds | None:
        """Return the rates; None if there were too few tokens to measure them.

        `num_prefill_tokens` is the number of prompt tokens that all steps together computed.
        """
        if min(self.num_decode_tokens, num_prefill_tokens) < _MIN_TOKENS:
            return None
        decode_tps = self.num_decode_tokens / self.decode_seconds
        for_prompts = self.mixed_seconds - self.num_mixed_decode_tokens / decode_tps
        if for_prompts <= 0:
            return None
        return Speeds(num_prefill_tokens / for_prompts, decode_tps)
