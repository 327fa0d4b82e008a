"""Documents into the context: restored from disk as far as they are there, the rest computed.

What is computed is saved block by block, so neither Ctrl-C nor a kill loses more than a block.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from l4cli.documents.prompt import DocumentPrompt
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.loading.llm import LLM
from l4cli.speeds import DEFAULT_N_UBATCH, PrefillRate
from l4cli.store.catalogue import StoredDocument, note_document

_MIN_RATE = 512  # tokens: fewer say more of the clock than of the machine


@dataclass(slots=True)
class Reading:
    """What reading took: tokens, seconds and bytes. `exit_code` is set if a signal ended it."""

    num_tokens: int
    num_restored_tokens: int = 0
    num_held_tokens: int = 0  # before any was computed, restored ones among them
    num_read_tokens: int = 0  # held and computed
    restore_seconds: float = 0.0
    prefill_seconds: float = 0.0
    num_bytes_saved: int = 0
    rates: list[PrefillRate] = field(default_factory=list)
    exit_code: int = 0

    @property
    def is_whole(self) -> bool:
        return self.num_read_tokens == self.num_tokens

    @property
    def num_computed_tokens(self) -> int:
        return max(0, self.num_read_tokens - self.num_held_tokens)

    def measure(self, depth: int, seconds: float) -> None:
        """Take down the rate of the tokens computed since `depth`, unless they are few."""
        n_tokens = self.num_read_tokens - depth
        if n_tokens >= _MIN_RATE and seconds > 0:
            # Rates are kept by depth: rounded, so that one document's replace another's.
            near = depth // SEGMENT_TOKENS * SEGMENT_TOKENS
            rate = PrefillRate(near, DEFAULT_N_UBATCH, n_tokens, n_tokens / seconds)
            self.rates.append(rate)


def read(
    llm: LLM,
    prompt: DocumentPrompt,
    *,
    use_store: bool = True,
    on_progress: Callable[[int], None] = lambda done: None,
    stopping: Callable[[], object] = lambda: False,
    clock: Callable[[], float] = time.perf_counter,
) -> Reading:
    """Have a prompt's documents in the engine, pinned; with `use_store` on disk as well.

    Ends early once `stopping` has become true: what was read so far is saved, too. An `interrupt`
    alone is gone on after. Errors as of `Prefixes.prefill`.
    """
    tokens = prompt.prefix
    reading = Reading(len(tokens))
    started = clock()
    if use_store:
        reading.num_restored_tokens = llm.recall(tokens, exact=True)
    reading.restore_seconds = clock() - started
    is_begun = False
    while not reading.is_whole and not stopping():
        begun, depth = clock(), -1
        for done in llm.engine.prefixes.prefill(tokens, pin=True):
            reading.num_read_tokens = done
            if not is_begun:
                reading.num_held_tokens, is_begun = done, True
            on_progress(done)
            if stopping():
                break
            if depth < 0:
                depth = done
            elif done % SEGMENT_TOKENS == 1 or done == len(tokens):
                reading.measure(depth, clock() - begun)
                if use_store:
                    reading.num_bytes_saved += llm.remember(tokens[:done])
                begun, depth = clock(), done
    reading.prefill_seconds = clock() - started - reading.restore_seconds
    if use_store and not reading.is_whole and reading.num_computed_tokens:
        reading.num_bytes_saved += llm.remember(tokens[: reading.num_read_tokens])
    if use_store and reading.is_whole:
        enter(llm, prompt)
    return reading


def enter(llm: LLM, prompt: DocumentPrompt) -> None:
    """Have `l4 docs` list a prompt's documents, which are in the store."""
    if llm.states:
        names = tuple(document.name for document in prompt.documents)
        stored = StoredDocument(names=names, model=llm.name, num_tokens=len(prompt.prefix))
        note_document(llm.states, stored, prompt.prefix)
