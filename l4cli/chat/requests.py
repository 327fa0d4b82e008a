"""Makes the requests of one turn: each answer's maximum length and sampling. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from l4cli.engine.scheduler import MIN_SHARED_TOKENS
from l4cli.engine.types import Request, SamplingParams
from l4cli.errors import ContextOverflowError


def requests_of(
    ids: Sequence[str],
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    n_ctx: int,
    at_once: int = 1,
    max_cached: int | None = None,
) -> list[Request]:
    """Return one request for each of `ids`, all with the same prompt.

    ids: the ids of the requests.
    prompt: token ids.
    params: sampling parameters. max_tokens is lowered to what the context has left; a given seed
        becomes a different one for each request.
    n_ctx: tokens of the context.
    at_once: how many of the requests run at the same time and share the context.
    max_cached: the most tokens of the prompt to take from the KV cache; None is no limit.

    ContextOverflowError, with the numbers and the ways out, if the prompt leaves no room for an
    answer.
    """
    if len(prompt) >= n_ctx:
        raise ContextOverflowError(
            f"this turn needs {len(prompt):,} tokens and room for an answer, the context holds "
            f"{n_ctx:,}: /undo or /clear makes room, /compact sums up what was said, a larger "
            "--ctx gives more"
        )
    share = _share(n_ctx, len(prompt), at_once)
    params = replace(params, max_tokens=min(params.max_tokens or share, share))
    return [Request(id, tuple(prompt), params.varied(n), max_cached) for n, id in enumerate(ids)]


def _share(n_ctx: int, num_prompt_tokens: int, at_once: int) -> int:
    """Return how many tokens each of `at_once` answers may have, so that all fit together."""
    is_shared = num_prompt_tokens > MIN_SHARED_TOKENS
    num_shared = num_prompt_tokens - 1 if is_shared else 0  # each answer computes the last token
    return max(1, (n_ctx - num_shared) // at_once - (num_prompt_tokens - num_shared))
