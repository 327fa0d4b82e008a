"""One request on its way through the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from l4cli.engine.types import Request


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and generated tokens, and how many of them the KV cache holds.

    `num_reserved` cells are set aside at admission, so that a running sequence can always reach
    its full length. `seq_id` is -1 while it waits. `num_prefilled_tokens` were computed (or
    restored) in the pieces of `prefill`; a `pinned` sequence is retained before all others.
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
        """Tokens it still has to catch up with; 1 while it decodes."""
        return len(self.tokens) - self.num_computed_tokens


def common_prefix(a: list[int], b: list[int]) -> int:
    """Number of leading tokens that `a` and `b` share, by bisection over slice equality."""
    low, high = 0, min(len(a), len(b))
    if high == 0 or a[0] != b[0]:
        return 0
    step = 64  # most prompts part early: do not compare whole documents to learn it
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
