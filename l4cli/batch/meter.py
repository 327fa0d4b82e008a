"""The rates of a run, told from the steps of its engine. Pure: times are passed in."""

from __future__ import annotations

from dataclasses import dataclass

from l4cli.speeds import Speeds

_MIN_TOKENS = 32  # of each kind: fewer say more of the clock than of the machine


@dataclass(slots=True)
class SpeedMeter:
    """Tells prefill from decode in the steps of a run, which compute both together.

    Steps in which every request decodes give the one rate; of the others, the time that their
    decoding takes at that rate is taken off, and what is left was for prompts.
    """

    decode_seconds: float = 0.0
    num_decode_tokens: int = 0
    mixed_seconds: float = 0.0
    num_mixed_decode_tokens: int = 0

    def add(self, seconds: float, num_decode_tokens: int, *, has_prefill: bool) -> None:
        """One step: its time, and the tokens it sampled but for those that follow a prompt."""
        if has_prefill:
            self.mixed_seconds += seconds
            self.num_mixed_decode_tokens += num_decode_tokens
        else:
            self.decode_seconds += seconds
            self.num_decode_tokens += num_decode_tokens

    def speeds(self, num_prefill_tokens: int) -> Speeds | None:
        """The rates, `num_prefill_tokens` being all prompts'; None where too little was seen."""
        if min(self.num_decode_tokens, num_prefill_tokens) < _MIN_TOKENS:
            return None
        decode_tps = self.num_decode_tokens / self.decode_seconds
        for_prompts = self.mixed_seconds - self.num_mixed_decode_tokens / decode_tps
        if for_prompts <= 0:
            return None
        return Speeds(num_prefill_tokens / for_prompts, decode_tps)
