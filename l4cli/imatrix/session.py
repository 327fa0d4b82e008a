"""Takes a model through the chunks of texts, and sums up what its weights are multiplied with."""

from __future__ import annotations

from collections.abc import Callable

from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.inputs import InputsWatcher
from l4cli.engine.types import BatchItem, DecodeAbortedError
from l4cli.imatrix.choosing import Policy, flat
from l4cli.imatrix.chunks import Chunks
from l4cli.imatrix.partial import State
from l4cli.speeds import Conditions

# Tokens that are computed together. llama.cpp goes on behind the last attention with those tokens
# only whose logits are kept, so it keeps all: memory for so many rows of the vocabulary, twice.
_WIDTH = 512


class Collection:
    """One way through the chunks.

    state: what was found before; it grows, and is whole after each chunk.
    stopping: asked before each chunk; the way ends once it is true.
    show: called with the number of chunks read so far.
    after: called after each chunk.
    """

    def __init__(
        self,
        weights: LlamaModel,
        conditions: Conditions,
        chunks: Chunks,
        policy: Policy,
        state: State,
        *,
        stopping: Callable[[], object] = lambda: False,
        show: Callable[[int], None] = lambda done: None,
        after: Callable[[State], None] = lambda state: None,
    ) -> None:
        self._weights, self._conditions = weights, conditions
        self._chunks, self._policy, self.state = chunks, policy, state
        self.stopping, self.show, self.after = stopping, show, after
        self._backend: LlamaBackend | None = None
        self.is_whole = True

    @property
    def total(self) -> int:
        """Chunks that are read at most, with those that `state` began with."""
        return self._policy.total

    def interrupt(self) -> None:
        """Make the running chunk end soon; then `is_whole` tells that `state` has a part of it.

        Safe from signal handlers and other threads.
        """
        if self._backend:
            self._backend.interrupt()

    def run(self) -> None:
        """Read chunks until the policy ends or `stopping` is true.

        Raises ModelLoadError if memory is short, ModelError if the model computes something that is
        no number, EngineError if llama.cpp fails.
        """
        state = self.state
        width = min(_WIDTH, self._chunks.n_ctx)
        self._backend = LlamaBackend(
            self._weights,
            n_ctx=self._chunks.n_ctx,
            n_batch=width,
            n_ubatch=width,
            n_outputs=width,
            n_threads=self._conditions.n_threads,
            kv_type=self._conditions.kv_type,
            watcher=InputsWatcher(state.sums.take),
        )
        try:
            experts = flat(state.sums.experts())
            while not self.stopping():
                chunk = self._policy.next(state.done, experts, state.routed)
                if chunk is None:
                    return
                self.is_whole = False
                self._read(self._backend, self._chunks.ids(chunk), width)
                before, experts = experts, flat(state.sums.experts())
                state.routed.note(self._chunks.source_of(chunk), before, experts)
                state.done.append(chunk)
                self.is_whole = True
                self.show(len(state.done))
                self.after(state)
        except DecodeAbortedError:
            return
        finally:
            backend, self._backend = self._backend, None
            backend.close()

    @staticmethod
    def _read(backend: LlamaBackend, ids: list[int], width: int) -> None:
        backend.truncate(0, 0)
        for start in range(0, len(ids), width):
            piece = ids[start : start + width]
            backend.decode([BatchItem(0, start, piece, True, wants_all=True)])
