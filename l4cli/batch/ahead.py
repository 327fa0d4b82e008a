"""Documents in the KV cache before their questions, by way of the prefix store.

A row's document is brought there first if that is worth it:

- What was stored of it is loaded, whatever else runs: keys and values are those of a reading by
  itself, bit for bit.
- Otherwise it is read alone, in the pieces in which `l4 ask` reads, and stored. In another
  partition into batches it would be rounded differently, and others could not go on from it
  exactly. Rows under way are finished before that; so it is done for documents that are long, or
  have several questions.

Any other document is a prompt like those of other rows. All this takes a pool of cells.
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

_LONG_FOR_SEVERAL = 1024  # tokens: their answers are a batch by themselves, shorter ones are not


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A row's document, and how many questions it has."""

    document: DocumentPrompt
    num_questions: int

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.document.prefix

    @property
    def is_long(self) -> bool:
        """Whether to read it is more than what the others wait for it."""
        return len(self.prefix) >= (
            SEGMENT_TOKENS if self.num_questions == 1 else _LONG_FOR_SEVERAL
        )

    @property
    def should_prefill(self) -> bool:
        """Whether it should be brought: it is long, or has been read before."""
        is_short = len(self.prefix) <= MIN_TAIL
        return not is_short and (self.is_long or is_known(store_root(), self.prefix))


class ReadAhead:
    """Brings documents and lets go of them; what that takes goes into `stats`.

    `on_step` is called after each piece of one that is read, `on_reading` with the whole of it.
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
        self._readings: dict[str, Reading] = {}  # by the request that came first behind them
        self._waiting: Asked | None = None  # until nothing is in flight
        self.is_off = not llm.has_states

    def serves(self, asked: Asked | None) -> bool:
        """Whether nothing is to be brought, or the present context can take it."""
        return asked is None or self.is_off or self._llm.engine.backend.states is not None

    def pin_document(
        self, asked: Asked, request_id: str, *, is_busy: bool, stopping: Callable[[], object]
    ) -> bool:
        """Have the document of a request in the engine, pinned until `unpin`, if it is worth it.

        False where the request must wait: `is_busy` says that others are in flight, and that it can
        only be read when they have ended; or `stopping` has become true. What was read is kept
        then. Errors as of `Prefixes.prefill`.
        """
        if is_busy and asked is self._waiting:
            return False
        enough = len(asked.prefix) - MIN_TAIL
        if self._llm.engine.prefixes.holder(asked.prefix, exact=True)[1] <= enough:
            is_stored = self._llm.num_stored(asked.prefix) > enough
            if not (is_stored or asked.is_long):
                return True
            if not (is_stored and self._restored(asked)):
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
        """Its row is done: the document goes for a newer prefix, unless other rows need it."""
        if unpin := self._pinned.pop(asked, None):
            unpin()
        for other in self._pinned:
            if other.prefix == asked.prefix:
                self._pinned[other] = self._llm.engine.prefixes.pin(other.prefix)

    def counted(self, outputs: Sequence[StepOutput]) -> list[StepOutput]:
        """The outputs of a step, where what was computed for a request alone is not cached."""
        return [
            output._replace(num_cached_tokens=max(0, output.num_cached_tokens - num_computed))
            if (num_computed := self._num_computed(output.request_id))
            else output
            for output in outputs
        ]

    def timed(self, completion: Completion) -> Completion:
        """A completion whose times count from when its document began to be read."""
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

    def _restored(self, asked: Asked) -> bool:
        """Load it from the store, if there is room beside what runs."""
        if len(self._pinned) >= max(1, self._llm.engine.backend.n_seq_max // 2):
            return False  # each takes a sequence from those that could answer
        num_restored = self._llm.recall(asked.prefix, exact=True)
        if num_restored:
            self._stats.num_restored_tokens += num_restored
            enter(self._llm, asked.document)
        return num_restored > 0

    def _read(self, document: DocumentPrompt, stopping: Callable[[], object]) -> Reading:
        """Compute, alone in the cache as `l4 ask` would, what is not stored of it; store that."""
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
