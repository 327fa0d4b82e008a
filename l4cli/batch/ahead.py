"""Puts a row's document into the KV cache before its questions run, using the reading cache.

This is done only for documents that are worth it:

- If the document is in the reading cache, it is restored, even while other rows run. The restored
  keys and values are bit for bit those of prefilling the document alone.
- Otherwise a document that is long, or has several questions, is prefilled alone, in the same
  pieces as in `l4 ask`, and saved to the store. Divided into batches in another way, it would be
  rounded differently, and later runs could not continue from it exactly. The rows in flight must
  finish first, which is why shorter documents are not worth it.

All other documents are ordinary prompts. Restoring and saving need a context whose KV cache is a
pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from l4cli.batch.stats import BatchStats
from l4cli.documents.prompt import DocumentPrompt
from l4cli.documents.reading import Reading, enter, read
from l4cli.engine.pieces import SEGMENT_TOKENS
from l4cli.engine.types import Completion, StepOutput
from l4cli.loading.llm import LLM
from l4cli.store.chain import MIN_TAIL
from l4cli.store.directory import is_known, store_root

# Tokens from which a document with several questions is long. Its answers are a batch of their own,
# so it stalls the other rows less than a document with one question.
_LONG_FOR_SEVERAL = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A row's document, and how many questions the row asks about it."""

    document: DocumentPrompt
    num_questions: int

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.document.prefix

    @property
    def is_long(self) -> bool:
        """Whether the document is long enough that prefilling it alone may stall the other rows."""
        return len(self.prefix) >= (
            SEGMENT_TOKENS if self.num_questions == 1 else _LONG_FOR_SEVERAL
        )

    @property
    def should_prefill(self) -> bool:
        """Whether the document is worth restoring or prefilling before its questions.

        It must be longer than MIN_TAIL tokens, and either long or in the reading cache already (as
        far as its first segment shows).
        """
        is_short = len(self.prefix) <= MIN_TAIL
        return not is_short and (self.is_long or is_known(store_root(), self.prefix))


class ReadAhead:
    """Restores or prefills documents before their questions, and pins them until their row is done.

    llm: the model.
    stats: receives the tokens restored, the bytes saved and the prefill time.
    on_step: called after each piece of a document that is prefilled.
    on_reading: called with the Reading of each document that was prefilled.
    """

    def __init__(
        self,
        llm: LLM,
        stats: BatchStats,
        on_step: Callable[[], None],
        on_reading: Callable[[Reading], object],
    ) -> None:
        self._llm, self._stats = llm, stats
        self._on_step, self._on_reading = on_step, on_reading
        self._pinned: dict[Asked, Callable[[], None]] = {}
        self._readings: dict[str, Reading] = {}  # by the id of the document's first request
        self._waiting: Asked | None = None  # must be prefilled once no request is in flight
        self.is_off = not llm.has_states

    def serves(self, asked: Asked | None) -> bool:
        """Whether the current context can take the document; always true for None or when off."""
        return asked is None or self.is_off or self._llm.engine.backend.states is not None

    def pin_document(
        self, asked: Asked, request_id: str, *, is_busy: bool, stopping: Callable[[], object]
    ) -> bool:
        """Restore or prefill a document and pin it until `unpin`, if it is worth it.

        asked: the document.
        request_id: the request that will run first on the document.
        is_busy: whether other requests are in flight. Then the document can be restored but not
            prefilled.
        stopping: checked between pieces; if true, prefilling ends early. The tokens prefilled so
            far are kept.

        Returns False if the request must wait or prefilling was stopped, True if it can run now.
        Raises the errors of `Prefixes.prefill`.
        """
        if is_busy and asked is self._waiting:
            return False
        enough = len(asked.prefix) - MIN_TAIL
        if self._llm.engine.prefixes.holder(asked.prefix, exact=True)[1] <= enough:
            is_stored = self._llm.num_stored(asked.prefix) > enough
            if not (is_stored or asked.is_long):
                return True
            if not (is_stored and self._restore(asked)):
                if is_busy:
                    self._waiting = None if is_stored else asked
                    return False
                reading = self._read(asked.document, stopping)
                if not reading.is_whole:
                    return False
                self._readings[request_id] = reading
        self._pinned[asked] = self._llm.engine.prefixes.pin(asked.prefix)
        return True

    def unpin(self, asked: Asked) -> None:
        """Unpin the document of a finished row; keep it pinned if other rows still need it."""
        if unpin := self._pinned.pop(asked, None):
            unpin()
        for other in self._pinned:
            if other.prefix == asked.prefix:
                self._pinned[other] = self._llm.engine.prefixes.pin(other.prefix)

    def counted(self, outputs: Sequence[StepOutput]) -> list[StepOutput]:
        """Correct num_cached_tokens in the outputs of a step.

        The engine finds a prefilled document in its cache. But its tokens were computed for this
        very request, so they must not count as cached.
        """
        return [
            output._replace(num_cached_tokens=max(0, output.num_cached_tokens - num_computed))
            if (num_computed := self._num_computed(output.request_id))
            else output
            for output in outputs
        ]

    def timed(self, completion: Completion) -> Completion:
        """Return the completion; its times include restoring and prefilling its document."""
        reading = self._readings.pop(completion.request_id, None)
        if reading is None:
            return completion
        seconds = reading.restore_seconds + reading.prefill_seconds
        return replace(
            completion, ttft=completion.ttft + seconds, seconds=completion.seconds + seconds
        )

    def _num_computed(self, request_id: str) -> int:
        reading = self._readings.get(request_id)
        return reading.num_computed_tokens if reading else 0

    def _restore(self, asked: Asked) -> bool:
        """Restore a document from the store, if pinned documents leave room; whether it was."""
        if len(self._pinned) >= max(1, self._llm.engine.backend.n_seq_max // 2):
            return False  # a pinned document takes a sequence that could run a request
        num_restored = self._llm.recall(asked.prefix, exact=True)
        if num_restored:
            self._stats.num_restored_tokens += num_restored
            enter(self._llm, asked.document)
        return num_restored > 0

    def _read(self, document: DocumentPrompt, stopping: Callable[[], object]) -> Reading:
        """Restore the stored part of a document; prefill the rest alone and save it."""
        stats, name, num_tokens = self._stats, document.documents[0].name, len(document.prefix)

        def show(done: int) -> None:
            stats.reading = f"reading {name}: {done / num_tokens:.0%}"
            self._on_step()

        self._llm.engine.forget()
        try:
            reading = read(self._llm, document, on_progress=show, stopping=stopping)
        finally:
            stats.reading = ""
        stats.num_restored_tokens += reading.num_restored_tokens
        stats.num_bytes_kept += reading.num_bytes_saved
        stats.meter.add(reading.prefill_seconds, 0, has_prefill=True)
        self._on_reading(reading)
        return reading
