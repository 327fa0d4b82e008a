"""Computes embeddings: a context that gives one vector for each sequence, and no logits.

An encoder attends to both sides, so llama.cpp has to compute a text at once: it must fit in one
ubatch, or an assertion ends the process. Lengths are therefore checked here, before every call.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np

from l4cli.engine.embedding import Pooling, Vectors
from l4cli.engine.llamacpp import library
from l4cli.engine.llamacpp.batch import Batch
from l4cli.engine.llamacpp.making import ABORTED, context_params, make_context
from l4cli.engine.llamacpp.model import LlamaModel
from l4cli.engine.types import BatchItem, DecodeAbortedError
from l4cli.errors import EngineError

_POOLINGS: dict[Pooling, int] = {"mean": 1, "cls": 2, "last": 3}  # llama_pooling_type of llama.h


class EmbeddingContext:
    """A context over a loaded model, which it does not own.

    longest: most tokens of one input.
    n_batch: most tokens of all inputs that are computed together; at least `longest`.
    n_seq_max: most inputs that are computed together.
    pooling: how the vectors of all tokens become one.
    n_threads: None means one per physical core.

    Raises ModelLoadError if the context does not fit in memory.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        longest: int,
        n_batch: int,
        n_seq_max: int,
        pooling: Pooling,
        n_threads: int | None = None,
    ) -> None:
        self.longest, self.n_batch, self.n_seq_max = longest, max(n_batch, longest), n_seq_max
        self.pooling = pooling
        self._n_vocab = model.n_vocab
        self._interrupt = ctypes.create_string_buffer(2)
        params = context_params(self._interrupt, n_threads)
        params.n_ctx = params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = n_seq_max
        params.embeddings = True
        params.pooling_type = _POOLINGS[pooling]
        # In regions, llama.cpp could compute a sequence in several ubatches, and pool each of them.
        params.kv_unified = True
        what = f"for inputs of {self.n_batch:,} tokens"
        self._handle = make_context(model, params, what, "try a smaller --embed-ctx")
        self._memory = llama_cpp.llama_get_memory(self._handle)  # None for encoders
        self.n_embd = int(llama_cpp.llama_model_n_embd_out(model.handle))
        self._batch = Batch(self.n_batch)

    def compute(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """Return the pooled vector of each input, float32 [len(inputs), n_embd].

        inputs: at most `n_seq_max` lists of token ids, none empty, with at most `longest` tokens
            each and `n_batch` together; ids are those of the vocabulary. ValueError otherwise.

        Raises DecodeAbortedError if `interrupt` is called meanwhile, and EngineError with
        llama.cpp's reason.
        """
        self._check(inputs)
        items = [
            BatchItem(index, 0, list(tokens), wants_logits=True, wants_all=True)
            for index, tokens in enumerate(inputs)
        ]
        self._batch.fill(items)
        if self._memory:
            llama_cpp.llama_memory_clear(self._memory, False)
        library.forget_log()
        self._interrupt[0] = b"\0"  # it may have come too late for an earlier computation
        code = llama_cpp.llama_decode(self._handle, self._batch.struct)
        if code == ABORTED:
            raise DecodeAbortedError
        if code != 0:
            why = library.last_complaint()
            raise EngineError(f"llama.cpp failed to compute embeddings: {why or f'code {code}'}")
        vectors = np.empty((len(inputs), self.n_embd), np.float32)
        for index in range(len(inputs)):
            found = llama_cpp.llama_get_embeddings_seq(self._handle, index)
            if not found:
                raise EngineError("llama.cpp gave no embedding for an input")
            vectors[index] = np.ctypeslib.as_array(found, (self.n_embd,))
        return vectors

    def _check(self, inputs: Sequence[Sequence[int]]) -> None:
        lengths = [len(tokens) for tokens in inputs]
        if not 1 <= len(inputs) <= self.n_seq_max or sum(lengths) > self.n_batch:
            raise ValueError(f"{len(inputs)} inputs of {sum(lengths)} tokens")
        if min(lengths) < 1 or max(lengths) > self.longest:
            raise ValueError(f"inputs of {min(lengths)} to {max(lengths)} tokens")
        for tokens in inputs:
            if min(tokens) < 0 or max(tokens) >= self._n_vocab:
                raise ValueError(f"token ids from {min(tokens)} to {max(tokens)}")

    def interrupt(self) -> None:
        """Make a `compute` that runs now raise DecodeAbortedError soon. Safe from any thread."""
        self._interrupt[0] = b"\1"

    def close(self) -> None:
        """Free the context; idempotent."""
        if self._handle:
            llama_cpp.llama_free(self._handle)
            self._handle = None
