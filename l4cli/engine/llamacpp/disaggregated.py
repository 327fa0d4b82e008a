"""Computes prompts in one context and answers in another, each over weights in the better order.

On a CPU, llama.cpp computes prompts faster from weights in the file's order, and answers faster
from its repacked copy (`fit/choose.py` says why). So the prompts of a batch are computed in a
context whose cache is a pool, where they need not be equally long. When a prompt is complete, its
keys and values move to its region of the other context, which continues with the answer. The idea
is DistServe's (Zhong et al., 2024), with memory instead of the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from l4cli.engine.llamacpp.context import LlamaBackend
from l4cli.engine.llamacpp.sampling import Candidates, LlamaSampler
from l4cli.engine.types import BatchItem, SamplingParams, States, TokenLogprob
from l4cli.errors import EngineError, ModelLoadError

MIN_PREFILL = 512  # prompt tokens in a batch that justify a separate pass over the weights


class DisaggregatedBackend:
    """A Backend of two contexts, which it owns: one in regions for answers, a pool for prompts.

    decode: the context in regions.
    make_prefill: makes the pool when the first batch has enough prompt tokens. The pool must be
        made `along_with` `decode`, so that one `interrupt` stops both. If this raises
        ModelLoadError, or llama.cpp cannot move sequences between the two, everything is computed
        in `decode`.

    A sequence is in one context at a time, under the same id. It stays in the pool until its
    prompt is complete, or until an operation is called that only `decode` can do.
    """

    unified = False

    def __init__(self, decode: LlamaBackend, make_prefill: Callable[[], LlamaBackend]) -> None:
        self._decode = decode
        self._make_prefill = make_prefill
        self._prefill: LlamaBackend | None = None
        self.min_prefill: int | None = MIN_PREFILL
        self.n_ctx, self.n_ctx_seq = decode.n_ctx, decode.n_ctx_seq
        self.n_batch, self.n_ubatch = decode.n_batch, decode.n_ubatch
        self.n_seq_max = decode.n_seq_max
        self.channels, self.routes = decode.channels, decode.routes
        self.piece, self.is_eog = decode.piece, decode.is_eog
        self._in_prefill: set[int] = set()
        self._outputs: list[tuple[LlamaBackend, int]] = []
        self.states = _States(decode.states, self._hand_over) if decode.states else None
        self._candidates = Candidates(decode.model.n_vocab)

    def decode(self, items: Sequence[BatchItem]) -> None:
        """Compute the items' tokens: prompts in a separate pass if there are enough of them.

        Raises the errors of LlamaBackend.decode; `num_computed` then tells how far each sequence
        got.
        """
        apart = self._to_prefill(items)
        prompts = [item for item in items if item.seq_id in apart]
        others = [item for item in items if item.seq_id not in apart]
        for item in others:
            self._hand_over(item.seq_id)
        if self._prefill and prompts:
            self._in_prefill |= apart
            self._prefill.decode(prompts)
        if others:
            self._decode.decode(others)
        self._note_outputs(items)
        for item in prompts:
            if item.wants_logits:
                self._hand_over(item.seq_id)

    def sampler(self, params: SamplingParams, prompt: Sequence[int]) -> LlamaSampler:
        return LlamaSampler(self, self._decode.model, self._candidates, params, prompt)

    def logits(self, output: int) -> npt.NDArray[np.float32]:
        """The `output`-th logits of the last decode, float32 [n_vocab]; valid until the next."""
        backend, own_output = self._outputs[output]
        return backend.logits(own_output)

    def likeliest(self, output: int) -> int:
        """The token with the greatest of the `output`-th kept logits; EngineError if not finite."""
        backend, own_output = self._outputs[output]
        return backend.likeliest(own_output)

    def num_computed(self, seq_id: int) -> int:
        return self._where(seq_id).num_computed(seq_id)

    def exact_prefix(self, seq_id: int, length: int) -> int:
        return self._where(seq_id).exact_prefix(seq_id, length)

    def fork(self, src: int, dst: int, length: int) -> None:
        self._hand_over(src)
        self._decode.fork(src, dst, length)

    def truncate(self, seq_id: int, length: int) -> None:
        self._where(seq_id).truncate(seq_id, length)
        if not length:
            self._in_prefill.discard(seq_id)

    def logprob(self, output: int, token: int, num_top: int) -> TokenLogprob:
        backend, row = self._outputs[output]
        return backend.logprob(row, token, num_top)

    def interrupt(self) -> None:
        self._decode.interrupt()

    def close(self) -> None:
        """Free both contexts; idempotent."""
        if self._prefill:
            self._prefill.close()
        self._decode.close()

    def _to_prefill(self, items: Sequence[BatchItem]) -> set[int]:
        """The sequences to compute in the pool; none if they have too few tokens.

        These are the prompts that began there, and new ones as long as there is room.
        """
        prompts = [item for item in items if item.pos == 0 or item.seq_id in self._in_prefill]
        if not self._is_enough(prompts):
            return set()
        pool = self._pool(prompts[0].seq_id)
        if pool is None:
            return set()
        here = {item.seq_id for item in prompts}
        room = pool.n_ctx - sum(map(pool.num_computed, self._in_prefill - here))
        fitting = []
        for item in prompts:
            stop = item.pos + len(item.tokens)
            if stop <= room:
                fitting.append(item)
                room -= stop
        return {item.seq_id for item in fitting} if self._is_enough(fitting) else set()

    def _is_enough(self, prompts: Sequence[BatchItem]) -> bool:
        num_tokens = sum(len(item.tokens) for item in prompts)
        return self.min_prefill is not None and num_tokens >= self.min_prefill

    def _pool(self, seq_id: int) -> LlamaBackend | None:
        """The context for prompts, made when first needed; None if that is impossible.

        When it is made, `seq_id` must be a sequence without any computed tokens.
        """
        if self._prefill:
            return self._prefill
        prefill = None
        try:
            prefill = self._make_prefill()
            prefill.hand_over(seq_id, self._decode)  # no tokens: tests whether moving works
        except (ModelLoadError, EngineError):
            self.min_prefill = None
            if prefill:
                prefill.close()
            return None
        self._prefill = prefill
        return prefill

    def _note_outputs(self, items: Sequence[BatchItem]) -> None:
        """Note the context that has each item's logits, and their index among that context's."""
        counts: Counter[LlamaBackend] = Counter()
        self._outputs = []
        for item in items:
            if item.wants_logits:
                backend = self._where(item.seq_id)
                num_rows = len(item.tokens) if item.wants_all else 1
                self._outputs += [(backend, counts[backend] + row) for row in range(num_rows)]
                counts[backend] += num_rows

    def _where(self, seq_id: int) -> LlamaBackend:
        return self._prefill if self._prefill and seq_id in self._in_prefill else self._decode

    def _hand_over(self, seq_id: int) -> None:
        """Move the sequence to the context that computes answers."""
        if self._prefill and seq_id in self._in_prefill:
            self._prefill.hand_over(seq_id, self._decode)
            self._in_prefill.discard(seq_id)


class _States:
    """The States of `decode`, to which a sequence moves before it is saved.

    states: those of `decode`.
    hand_over: moves a sequence to `decode`, if it is not there.
    """

    def __init__(self, states: States, hand_over: Callable[[int], None]) -> None:
        self._states, self._hand_over = states, hand_over
        self.segment = states.segment
        # Prompts were computed over weights in another order, which rounds in another way.
        self.key = f"{states.key}, prompts computed apart"

    def size(self, seq_id: int, start: int, stop: int) -> int:
        self._hand_over(seq_id)
        return self._states.size(seq_id, start, stop)

    def save(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> int:
        self._hand_over(seq_id)
        return self._states.save(seq_id, start, tokens, path)

    def load(self, seq_id: int, start: int, tokens: Sequence[int], path: Path) -> None:
        self._states.load(seq_id, start, tokens, path)

    def settle(self, seq_id: int) -> None:
        self._hand_over(seq_id)
        self._states.settle(seq_id)
