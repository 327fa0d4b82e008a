"""What a chat has cost so far."""

from __future__ import annotations

from dataclasses import dataclass

from l4cli.engine.answer import Answer

_MIN_TOKENS = 32  # fewer say more of the clock than of the machine


@dataclass(slots=True)
class Totals:
    """Sums over the answers of this run. Times are seconds."""

    num_answers: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    def add(self, answers: list[Answer]) -> None:
        """Count answers that were computed together: they take their time together, too."""
        begun = [answer for answer in answers if answer.has_begun]
        if not begun:
            return
        first = min(answer.ttft for answer in begun)
        self.num_answers += len(begun)
        self.num_prompt_tokens += sum(answer.num_prompt_tokens for answer in begun)
        self.num_cached_tokens += sum(answer.num_cached_tokens for answer in begun)
        self.num_generated_tokens += sum(len(answer.token_ids) for answer in begun)
        self.prefill_seconds += first
        self.decode_seconds += max(answer.seconds for answer in begun) - first

    def add_reading(self, num_tokens: int, seconds: float) -> None:
        """Count tokens of the next prompt that were computed before it."""
        self.num_cached_tokens -= num_tokens  # among which the prompt itself counts them
        self.prefill_seconds += seconds

    @property
    def seconds(self) -> float:
        return self.prefill_seconds + self.decode_seconds

    @property
    def num_computed_tokens(self) -> int:
        """Tokens of prompts that were not in the KV cache already."""
        return self.num_prompt_tokens - self.num_cached_tokens

    @property
    def prefill_tps(self) -> float | None:
        """Prompt tokens computed a second; None where too few were to tell."""
        if self.num_computed_tokens < _MIN_TOKENS or not self.prefill_seconds:
            return None
        return self.num_computed_tokens / self.prefill_seconds

    @property
    def decode_tps(self) -> float | None:
        """Tokens generated a second after the first; None where too few were to tell."""
        count = self.num_generated_tokens - self.num_answers
        if count < _MIN_TOKENS or not self.decode_seconds:
            return None
        return count / self.decode_seconds
