"""Documents into the context: restored from disk as far as they are there, the rest computed.

What is computed is saved block by block, so neither Ctrl-C nor a kill loses more than a block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from l4cli.engine.pieces import BLOCK
from l4cli.llm import LLM
from l4cli.signals import catch_interrupts
from l4cli.speeds import DEFAULT_N_UBATCH, PrefillRate

_MIN_RATE = 512  # tokens: fewer say more of the clock than of the machine


@dataclass(slots=True)
class Reading:
    """What reading took: tokens, seconds and bytes. `exit_code` is set if a signal ended it."""

    num_tokens: int
    num_restored_tokens: int = 0
    num_read_tokens: int = 0  # restored and computed
    restore_seconds: float = 0.0
    prefill_seconds: float = 0.0
    num_bytes_saved: int = 0
    rates: list[PrefillRate] = field(default_factory=list)
    exit_code: int = 0

    def measure(self, depth: int, seconds: float) -> None:
        """Take down the rate of the tokens computed since `depth`, unless they are few."""
        n_tokens = self.num_read_tokens - depth
        if n_tokens >= _MIN_RATE and seconds > 0:
            # Rates are kept by depth: rounded, so that one document's replace another's.
            near = depth // BLOCK * BLOCK
            rate = PrefillRate(near, DEFAULT_N_UBATCH, n_tokens, n_tokens / seconds)
            self.rates.append(rate)


def read(
    llm: LLM,
    tokens: Sequence[int],
    *,
    use_store: bool = True,
    on_progress: Callable[[int], None] = lambda done: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Have `tokens` in the engine, pinned; saved as well with `use_store`.

    Ends early, `exit_code` set, after a Ctrl-C or SIGTERM: what was read so far is saved, too.
    """
    reading = Reading(len(tokens))
    with catch_interrupts(llm.interrupt) as interrupts:
        started = clock()
        if use_store:
            reading.num_restored_tokens = llm.recall(tokens, exact=True)
        reading.restore_seconds = clock() - started
        begun, depth = clock(), reading.num_restored_tokens
        for done in llm.engine.prefixes.prefill(tokens, pin=True):
            reading.num_read_tokens = done
            on_progress(done)
            if interrupts:
                break
            if done > depth and (done % BLOCK == 1 or done == len(tokens)):
                reading.measure(depth, clock() - begun)
                if use_store:
                    reading.num_bytes_saved += llm.remember(tokens[:done])
                begun, depth = clock(), done
        reading.prefill_seconds = clock() - started - reading.restore_seconds
        if use_store and interrupts and reading.num_read_tokens > reading.num_restored_tokens:
            reading.num_bytes_saved += llm.remember(tokens[: reading.num_read_tokens])
    if reading.num_read_tokens < len(tokens):
        reading.exit_code = interrupts.exit_code
    return reading
