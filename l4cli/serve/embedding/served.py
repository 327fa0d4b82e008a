"""An embedding model that the server has loaded, with its thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event

from l4cli.engine.embedding import finished
from l4cli.errors import L4Error, RequestError
from l4cli.loading.embedder import Embedder
from l4cli.openai.answers import code_of
from l4cli.openai.embeddings import EmbeddingBody, Input, answer
from l4cli.serve.embedding.counts import EmbeddingCounts
from l4cli.serve.embedding.thread import EmbeddingThread
from l4cli.serve.errors import ApiError, api_error
from l4cli.serve.limits import AskingLimits


class ServedEmbedder:
    """One model. `start` it within the event loop, which alone uses it; `close` it at the end.

    name: what clients call it.
    """

    def __init__(self, embedder: Embedder, limits: AskingLimits) -> None:
        self.name, self.embedder, self._limits = embedder.name, embedder, limits
        self.counts = EmbeddingCounts()
        self._thread = EmbeddingThread(embedder, self.counts)
        # Encoding texts and writing vectors may take long, and must not keep the event loop from
        # its work.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="l4-embedding-encoder")

    @classmethod
    def start(cls, embedder: Embedder, limits: AskingLimits) -> ServedEmbedder:
        """Start the model's thread."""
        served = cls(embedder, limits)
        served._thread.start()
        return served

    @property
    def failure(self) -> Exception | None:
        """Why nothing can be computed any more; None if all is well."""
        return self._thread.failure

    async def embed(self, body: EmbeddingBody) -> bytes:
        """Return the JSON of the answer. ApiError if an input cannot be embedded, or in time.

        What is left to do is dropped when the call is cancelled.
        """
        most = self.embedder.n_embd
        if body.dimensions is not None and body.dimensions > most:
            raise ApiError(
                400,
                f"dimensions is {body.dimensions:,}, and {self.name} has {most:,}",
                param="dimensions",
            )
        with self._counted():
            try:
                return await asyncio.wait_for(self._embed(body), self._limits.seconds)
            except asyncio.TimeoutError:
                raise self._limits.late("send fewer inputs at once") from None

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Return the token ids of a text; RequestError if it holds half of a character.

        add_special: with the tokens that the model wants around a text.
        """
        loop = asyncio.get_running_loop()
        encode = partial(self.embedder.tokenize, text, add_special=add_special)
        return await loop.run_in_executor(self._encoder, encode)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count the request, and refuse it if too many wait."""
        if self.failure is not None:
            raise ApiError(503, f"{self.name} has failed: {self.failure}; restart l4 serve")
        if self.counts.num_open > self._limits.queue:
            raise self._limits.full("requests for embeddings")
        self.counts.num_open += 1
        try:
            yield
            self.counts.num_requests += 1
        finally:
            self.counts.num_open -= 1

    async def _embed(self, body: EmbeddingBody) -> bytes:
        loop = asyncio.get_running_loop()
        gone = Event()
        try:
            encoded = await loop.run_in_executor(self._encoder, self._encode, body.inputs, gone)
            try:
                raw = await asyncio.wrap_future(self._thread.submit(encoded))
            except L4Error as error:
                raise api_error(error) from None
            lengths = [len(tokens) for tokens in encoded]

            def write() -> bytes:
                vectors = finished(raw, body.dimensions)
                return "".join(answer(self.name, vectors, lengths, body.format)).encode()

            return await loop.run_in_executor(self._encoder, write)
        finally:
            gone.set()

    def _encode(self, inputs: Sequence[Input], gone: Event) -> list[list[int]]:
        """Encode inputs; stop when the client is gone. ApiError for one that cannot be embedded."""
        encoded: list[list[int]] = []
        for index, given in enumerate(inputs):
            if gone.is_set():
                break
            try:
                encoded.append(self.embedder.encode(given))
            except RequestError as error:
                raise ApiError(
                    400, f"input[{index}] {error}", code=code_of(error.type), param="input"
                ) from None
        return encoded

    def close(self) -> None:
        """End the thread. The model stays loaded."""
        self._encoder.shutdown(wait=False, cancel_futures=True)
        self._thread.close()
