"""Puts documents into the KV cache: restores their stored prefix from disk, prefills the rest.

Computed tokens are saved segment by segment, so Ctrl-C or a kill loses at most one segment.
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

_MIN_RATE = 512  # tokens; a rate measured over fewer is mostly noise


@dataclass(slots=True)
class Reading:
    """Statistics of one call of `read`: tokens, seconds and bytes.

    num_tokens: tokens of the prompt's documents.
    num_restored_tokens: restored from disk.
    num_held_tokens: in the engine before any was computed, including the restored ones.
    num_read_tokens: in the engine now, held and computed.
    rates: the measured speeds of prefill.
    exit_code: set if a signal ended the reading.
    """

    num_tokens: int
    num_restored_tokens: int = 0
    num_held_tokens: int = 0
    num_read_tokens: int = 0
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
        """Add the rate of the tokens computed since `depth`, unless they are too few."""
        n_tokens = self.num_read_tokens - depth
        if n_tokens >= _MIN_RATE and seconds > 0:
            # Rates are stored by depth. Rounding it lets a new document's rates replace the old.
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
    """Compute a prompt's documents, and pin them in the engine.

    use_store: whether to restore them from disk and save them to disk.
    on_progress: called with the number of tokens read so far.
    stopping: once it returns true, `read` saves the tokens read so far and returns. An `interrupt`
        of the engine alone does not end it.
    clock: returns seconds.

    Raises what `Prefixes.prefill` raises.
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
    """Enter a prompt's documents, which are in the store, into the list of `l4 docs`."""
    if llm.states:
        names = tuple(document.name for document in prompt.documents)
        stored = StoredDocument(names=names, model=llm.name, num_tokens=len(prompt.prefix))
        note_document(llm.states, stored, prompt.prefix)
