"""The state of one request in the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from l4cli.engine.types import Request


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and generated tokens of a request, and how many of them the KV cache holds.

    num_reserved: cells reserved at admission, enough for the sequence to reach its full length.
    tokens: the prompt, then the generated tokens.
    seq_id: -1 while the sequence waits.
    num_computed_tokens: leading tokens that the KV cache holds.
    num_cached_tokens: those of them that were reused from another sequence at admission.
    num_prefilled_tokens: leading tokens that were computed, or restored, in the pieces of
        `Prefixes.prefill`.
    pinned: the sequence is retained before all unpinned ones.
    """

    request: Request
    num_reserved: int
    tokens: list[int] = field(default_factory=list)
    seq_id: int = -1
    num_computed_tokens: int = 0
    num_cached_tokens: int = 0
    num_prefilled_tokens: int = 0
    pinned: bool = False
    num_prompt_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt)
        self.num_prompt_tokens = len(self.tokens)

    @property
    def num_pending_tokens(self) -> int:
        """Tokens that are not computed yet; 1 while the sequence decodes."""
        return len(self.tokens) - self.num_computed_tokens


def common_prefix(a: list[int], b: list[int]) -> int:
    """Number of leading tokens that `a` and `b` share, by bisection over slice equality."""
    low, high = 0, min(len(a), len(b))
    if high == 0 or a[0] != b[0]:
        return 0
    step = 64  # most prompts differ early: comparing whole documents would waste time
    while low < high:
        middle = min(high, low + step)
        if a[low:middle] != b[low:middle]:
            high = middle - 1
            break
        low, step = middle, step * 2
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
