"""The class Embedder: a loaded model that turns texts into vectors. Part of the public Python API.

from l4cli import load_embedder

with load_embedder("all-minilm.gguf") as embedder:
    found = embedder.embed(["What is GGUF?", "How do I cook rice?"])
    print(found.vectors @ found.vectors.T)  # how alike the texts are, from -1 to 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from l4cli.engine.embedding import Pooling, Vectors, bad_rows, batches_of, finished
from l4cli.engine.llamacpp import EmbeddingContext, LlamaModel
from l4cli.errors import ContextOverflowError, EngineError, RequestError
from l4cli.loading.file import ModelFile

Input = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings of several inputs.

    vectors: float32 [inputs, dimensions], each of length 1.
    num_tokens: the tokens of each input, with those that the model wants around a text.
    """

    vectors: Vectors
    num_tokens: tuple[int, ...]


class Embedder:
    """An embedding model with its context. Close it, or use it as a context manager.

    One thread at a time may call `compute` and `embed`; `encode` and `interrupt` any thread.
    """

    def __init__(
        self,
        file: ModelFile,
        weights: LlamaModel,
        context: EmbeddingContext,
        *,
        alone: bool = False,
    ) -> None:
        self.name, self.file = file.name, file
        self._weights, self._context, self._alone = weights, context, alone
        self._on_close: Callable[[], None] = lambda: None
        self._begin, self._end = list(weights.text_begin), list(weights.text_end)
        self.n_vocab = weights.n_vocab

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def longest(self) -> int:
        """Most tokens of one input."""
        return self._context.longest

    @property
    def n_batch(self) -> int:
        """Most tokens of the inputs of one `compute`."""
        return self._context.n_batch

    @property
    def n_seq_max(self) -> int:
        """Most inputs of one `compute`."""
        return 1 if self._alone else self._context.n_seq_max

    @property
    def n_embd(self) -> int:
        """Numbers of an embedding."""
        return self._context.n_embd

    @property
    def pooling(self) -> Pooling:
        """How the vectors of all tokens become one."""
        return self._context.pooling

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Return the token ids of a text of any length.

        add_special: with the tokens that the model wants around a text. Raises RequestError if the
        text has a lone surrogate.
        """
        ids = self._weights.tokenize(text)
        return [*self._begin, *ids, *self._end] if add_special else ids

    def encode(self, given: Input) -> list[int]:
        """Return the token ids of an input.

        A text gets the tokens that the model wants around it; no text in it becomes a control
        token. Token ids stay as they are.

        Raises ContextOverflowError if they are more than `longest`, and RequestError if there are
        none, or one that the vocabulary lacks.
        """
        if isinstance(given, str):
            if not given:
                raise RequestError("is an empty text")
            ids = self.tokenize(given, add_special=True)
        else:
            ids = list(given)
        if not ids:
            raise RequestError("has no tokens")
        if len(ids) > self.longest:
            raise ContextOverflowError(
                f"has {len(ids):,} tokens, and {self.name} takes {self.longest:,}; nothing is cut: "
                "split the text"
            )
        for id_ in ids:
            if not 0 <= id_ < self.n_vocab:
                raise RequestError(
                    f"has the token id {id_}, and the vocabulary has {self.n_vocab:,} tokens"
                )
        return ids

    def compute(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """Return the raw vectors of inputs that `encode` returned, float32 [inputs, n_embd].

        inputs: at most `n_seq_max`, of at most `n_batch` tokens together.

        Raises DecodeAbortedError if `interrupt` is called meanwhile, and EngineError.
        """
        return self._context.compute(inputs)

    def embed(self, inputs: Sequence[Input], *, dimensions: int | None = None) -> Embeddings:
        """Return the embeddings of texts, or of lists of token ids.

        dimensions: cut embeddings to so many numbers, for models that are trained for it; None for
            all.

        Raises RequestError, whose message names the input, for one that cannot be embedded.
        """
        if dimensions is not None and not 1 <= dimensions <= self.n_embd:
            raise RequestError(f"dimensions must be from 1 to {self.n_embd}, not {dimensions}")
        encoded = []
        for index, given in enumerate(inputs):
            try:
                encoded.append(self.encode(given))
            except RequestError as error:
                raise type(error)(f"input {index} {error}") from None
        vectors = np.empty((len(encoded), self.n_embd), np.float32)
        lengths = [len(tokens) for tokens in encoded]
        for batch in batches_of(lengths, self.n_batch, self.n_seq_max):
            vectors[batch] = self.compute([encoded[index] for index in batch])
        for index in bad_rows(vectors):
            raise EngineError(f"input {index}: the model computed values that are no numbers")
        return Embeddings(finished(vectors, dimensions), tuple(lengths))

    def interrupt(self) -> None:
        """Make a `compute` that runs now raise DecodeAbortedError soon."""
        self._context.interrupt()

    def on_close(self, free: Callable[[], None]) -> None:
        """Call `free` when this is closed."""
        self._on_close = free

    def close(self) -> None:
        """Free weights and context; idempotent."""
        self._on_close()
        self._on_close = lambda: None
