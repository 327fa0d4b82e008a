"""Takes a model through windows of text and counts the experts that each token is sent to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from l4cli.engine.llamacpp import LlamaBackend, LlamaModel
from l4cli.engine.llamacpp.routing import RoutingWatcher
from l4cli.engine.types import BatchItem, DecodeAbortedError
from l4cli.engine.ubatches import Ints, Placed
from l4cli.errors import EngineError, ModelError
from l4cli.experts.classes import Classes
from l4cli.experts.counts import Counts, Routed
from l4cli.experts.sections import Section, Window, windows
from l4cli.speeds import Conditions

_N_BATCH = 512
_FEWEST = 64  # tokens of a decode: below, each expert is read for hardly any token
_ROWS_BYTES = 1 << 30  # of logits, which llama.cpp holds twice
_SEQUENCES = 16  # short windows that are computed together


class Counting:
    """Counts over sections, in contexts of its own. `found` grows with each step.

    layers: the model's layers that have experts. n_experts: how many each has.
    n_ctx: most tokens of a window.
    stopping: asked before each step; the counting ends once it is true.
    show: called with the number of tokens computed so far.
    """

    def __init__(
        self,
        name: str,
        model: LlamaModel,
        conditions: Conditions,
        sections: Sequence[Section],
        layers: Sequence[int],
        n_experts: int,
        n_ctx: int,
        *,
        stopping: Callable[[], object] = lambda: False,
        show: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._name, self._model, self._conditions = name, model, conditions
        self._sections, self._n_ctx = sections, n_ctx
        self.stopping, self.show = stopping, show
        self._classes = Classes(model.piece, model.special_tokens.values())
        self._backend: LlamaBackend | None = None
        self._seen: list[tuple[int, Placed, Ints]] = []
        self.found = Counts(layers, n_experts)

    def interrupt(self) -> None:
        """Make the running step end soon. Safe from signal handlers and other threads."""
        if backend := self._backend:
            backend.interrupt()

    def run(self) -> None:
        """Fill `found`. It ends early after an interrupt, and keeps what whole steps counted.

        Raises ModelError if the model computes NaN, EngineError if llama.cpp fails.
        """
        model = self._model
        n_batch = max(_FEWEST, min(_N_BATCH, _ROWS_BYTES // (8 * model.n_vocab)))
        count = 1 if model.attention[0] == "recurrent" else _SEQUENCES
        backend = LlamaBackend(
            model,
            n_ctx=max(self._n_ctx, n_batch),
            n_seq_max=count,
            n_batch=n_batch,
            n_ubatch=n_batch,
            n_outputs=n_batch,  # in the last layer, other tokens are sent to no expert
            n_threads=self._conditions.n_threads,
            kv_type=self._conditions.kv_type,
            watcher=RoutingWatcher(self._take),
        )
        self._backend, done = backend, 0
        found = windows(self._sections, self._n_ctx, model.added_bos)
        try:
            for together in batches(found, n_batch, count):
                for items in pieces(together, n_batch):
                    if self.stopping():
                        return
                    self._step(backend, together, items)
                    done += sum(len(item.tokens) for item in items)
                    self.show(done)
        except DecodeAbortedError:
            return
        finally:
            self._backend = None
            backend.close()

    def _step(
        self, backend: LlamaBackend, together: Sequence[Window], items: Sequence[BatchItem]
    ) -> None:
        self._seen.clear()
        if items[0].pos == 0:
            for seq_id in range(backend.n_seq_max):
                backend.truncate(seq_id, 0)
        backend.decode(items)
        ends = np.cumsum([len(item.tokens) for item in items]) - 1
        if not np.isfinite(backend.kept()[ends].sum(1)).all():
            raise ModelError(
                f"{self._name}: it computed what is no number (NaN or infinite): its weights may "
                "be damaged (`l4 info` looks at the file)"
            )
        section_of = np.array([window.section for window in together], np.intp)
        tokens = [token for item in items for token in item.tokens]
        seq_ids = [item.seq_id for item in items for _ in item.tokens]
        self.found.add_tokens(section_of[seq_ids], self._classes.of(tokens))
        for layer, placed, experts in self._seen:
            sections, classes = section_of[placed.seq_ids], self._classes.of(placed.tokens.tolist())
            self.found.add(Routed(layer, sections, classes, experts))

    def _take(self, layer: int, placed: Placed, experts: Ints) -> None:
        """Keep what is counted once the decode has ended well."""
        _check(experts, self.found.n_experts, layer)
        if layer in self.found.layers:
            self._seen.append((layer, placed, experts.copy()))


def num_tokens(sections: Sequence[Section], n_ctx: int, bos: int | None) -> int:
    """Return how many tokens are computed for these sections."""
    return sum(len(window.tokens) for window in windows(sections, n_ctx, bos))


def batches(found: Iterator[Window], n_batch: int, most: int) -> Iterator[list[Window]]:
    """Yield windows that are computed together: up to `most`, with up to `n_batch` tokens.

    A window with more tokens is alone.
    """
    together: list[Window] = []
    tokens = 0
    for window in found:
        if together and (tokens + len(window.tokens) > n_batch or len(together) == most):
            yield together
            together, tokens = [], 0
        together.append(window)
        tokens += len(window.tokens)
    if together:
        yield together


def pieces(together: Sequence[Window], n_batch: int) -> Iterator[list[BatchItem]]:
    """Yield the decodes that compute these windows, each in a sequence of its own."""
    if len(together) > 1:
        yield [
            BatchItem(seq, 0, window.tokens, True, wants_all=True)
            for seq, window in enumerate(together)
        ]
        return
    [window] = together
    for at in range(0, len(window.tokens), n_batch):
        yield [BatchItem(0, at, window.tokens[at : at + n_batch], True, wants_all=True)]


def _check(experts: npt.NDArray[np.int32], n_experts: int, layer: int) -> None:
    if experts.min() < 0 or experts.max() >= n_experts:
        raise EngineError(
            f"layer {layer} chose an expert that does not exist ({experts.min()} to "
            f"{experts.max()} of {n_experts}): this build of llama.cpp is not what l4 knows"
        )
