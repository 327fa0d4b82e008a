"""Collects the answer to one request, output by output."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field

from l4cli.engine.types import FinishReason, StepOutput


@dataclass(slots=True)
class Answer:
    """The answer to one request so far. Times are in seconds since the request was made.

    finish_reason: "abort" until something else ends the request.
    error: why the request failed.
    exit_code: set if a signal ended the request.
    """

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "abort"
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    ttft: float = 0.0
    seconds: float = 0.0
    error: str | None = None
    exit_code: int = 0
    has_ended: bool = False

    @property
    def has_begun(self) -> bool:
        """Whether the answer has any content: False if it was stopped before its first token."""
        return bool(self.token_ids) or self.finish_reason != "abort"

    @property
    def is_whole(self) -> bool:
        """Whether the model or the length limit ended the answer."""
        return self.finish_reason in ("stop", "length")

    @property
    def num_computed_tokens(self) -> int:
        """Tokens of the prompt that were not in the KV cache and had to be computed."""
        return self.num_prompt_tokens - self.num_cached_tokens

    @property
    def generation_tps(self) -> float:
        """Tokens per second after the first token; 0 if there was only one."""
        seconds = self.seconds - self.ttft
        return (len(self.token_ids) - 1) / seconds if len(self.token_ids) > 1 and seconds else 0.0

    def take(self, output: StepOutput, seconds: float) -> str:
        """Add the output of a step that ended after `seconds`; return the text that it adds."""
        text = _certain(output)
        self.text += text
        self.token_ids += output.token_ids
        self.num_prompt_tokens = output.num_prompt_tokens
        self.num_cached_tokens = output.num_cached_tokens
        self.seconds = seconds
        if output.finish_reason:
            self.finish_reason, self.error = output.finish_reason, output.error
            self.has_ended = True
        if self.has_begun:
            self.ttft = self.ttft or seconds
        return text

    def drop_half_character(self, piece: Callable[[int], bytes]) -> None:
        """Remove the tokens of a character that was cut short, so that token ids and text agree.

        piece: returns a token's bytes.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        decoder.decode(b"".join(map(piece, self.token_ids[-4:])))
        pending = len(decoder.getstate()[0])
        while pending > 0:
            pending -= len(piece(self.token_ids.pop()))


def _certain(output: StepOutput) -> str:
    """The text of an output, without an incomplete character at the end of a cut-off answer."""
    if output.finish_reason in ("abort", "length"):
        return output.text.removesuffix("\ufffd")
    return output.text
