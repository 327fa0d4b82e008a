"""Sums of the tokens and seconds of a chat."""

from __future__ import annotations

from dataclasses import dataclass

from l4cli.engine.answer import Answer

_MIN_TOKENS = 32  # rates of fewer tokens are too inexact


@dataclass(slots=True)
class Totals:
    """Sums over all answers of this process. Times are in seconds."""

    num_answers: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    def add(self, answers: list[Answer]) -> None:
        """Add answers that ran at the same time; their seconds count once, not for each answer."""
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
        """Add document tokens that were computed before the prompt that begins with them.

        That prompt will count them as cached, so they are subtracted here.
        """
        self.num_cached_tokens -= num_tokens
        self.prefill_seconds += seconds

    @property
    def seconds(self) -> float:
        return self.prefill_seconds + self.decode_seconds

    @property
    def num_computed_tokens(self) -> int:
        """Prompt tokens that were not in the KV cache already."""
        return self.num_prompt_tokens - self.num_cached_tokens

    @property
    def prefill_tps(self) -> float | None:
        """Prompt tokens computed per second; None if there were too few to tell."""
        if self.num_computed_tokens < _MIN_TOKENS or not self.prefill_seconds:
            return None
        return self.num_computed_tokens / self.prefill_seconds

    @property
    def decode_tps(self) -> float | None:
        """Tokens generated per second, without each answer's first; None if too few to tell."""
        count = self.num_generated_tokens - self.num_answers
        if count < _MIN_TOKENS or not self.decode_seconds:
            return None
        return count / self.decode_seconds
