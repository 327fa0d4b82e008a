"""Computes embeddings in a thread of its own, for requests from any thread.

    HTTP handlers --submit--> inbox -> a batch of several requests' inputs -> futures

Only this thread computes with the model. Texts are encoded elsewhere, before `submit`.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Protocol

from l4cli.engine.embedding import Vectors, bad_rows
from l4cli.engine.types import DecodeAbortedError
from l4cli.errors import EngineError
from l4cli.serve.embedding.counts import EmbeddingCounts
from l4cli.serve.embedding.sharing import Job, Taken, next_batch, put_back
from l4cli.serve.inbox import Inbox


class Computer(Protocol):
    """What computes embeddings: an `Embedder`."""

    @property
    def n_embd(self) -> int: ...

    @property
    def n_batch(self) -> int: ...

    @property
    def n_seq_max(self) -> int: ...

    def compute(self, inputs: Sequence[Sequence[int]]) -> Vectors: ...

    def interrupt(self) -> None: ...


class EmbeddingThread:
    """The thread of one model. `start` it, and `close` it before the model.

    counts: what is counted, for /metrics.
    """

    def __init__(self, computer: Computer, counts: EmbeddingCounts) -> None:
        self.failure: Exception | None = None  # why the thread has ended, if it was a fault
        self._computer, self._counts = computer, counts
        self._inbox = Inbox()
        self._jobs: deque[Job] = deque()
        self._thread = threading.Thread(target=self._run, name="l4-embedding", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def submit(self, inputs: Sequence[Sequence[int]]) -> Future[Vectors]:
        """Queue inputs, which an `Embedder` encoded. Cancel the future to drop what is left."""
        job = Job.of(inputs, self._computer.n_embd)
        if self.failure is not None:
            _fail(job, self._lost())
        else:
            self._inbox.put(lambda: self._jobs.append(job))
        return job.future

    def close(self) -> None:
        """End the thread. What waits is not computed."""
        self._inbox.close()
        if self._thread.ident is not None:
            while self._thread.is_alive():  # a computation may begin after it was interrupted
                self._computer.interrupt()
                self._thread.join(0.1)

    def _run(self) -> None:
        try:
            while not self._inbox.is_closed:
                self._inbox.take(waits=not self._jobs)
                self._compute_some()
        except Exception as error:  # a bug: say so to all
            self.failure = error
            raise
        finally:
            self._inbox.take_rest()
            for job in self._jobs:
                _fail(job, self._lost())

    def _lost(self) -> EngineError:
        if self.failure is None:
            return EngineError("the server is stopping")
        return EngineError(f"the embedding model has failed: {self.failure}")

    def _compute_some(self) -> None:
        """Compute one batch. Drop the jobs that nobody waits for any more."""
        self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
        if self._inbox.is_closed or not self._jobs:
            return
        taken = next_batch(self._jobs, self._computer.n_batch, self._computer.n_seq_max)
        try:
            vectors = self._computer.compute([job.inputs[index] for job, index in taken])
        except DecodeAbortedError:  # by `close`
            put_back(taken)
            return
        except EngineError as error:
            self._end(taken, error)
            return
        for (job, index), vector in zip(taken, vectors, strict=True):
            job.vectors[index] = vector
        self._counts.num_batches += 1
        self._counts.num_inputs += len(taken)
        self._counts.num_tokens += sum(len(job.inputs[index]) for job, index in taken)
        for job in [job for job in self._jobs if not job.waiting]:
            self._jobs.remove(job)
            _answer(job)
        self._jobs.rotate(-1)

    def _end(self, taken: Taken, error: EngineError) -> None:
        """Fail the jobs whose inputs could not be computed."""
        for job in {id(job): job for job, _ in taken}.values():
            self._jobs.remove(job)
            _fail(job, error)


def _answer(job: Job) -> None:
    bad = next(iter(bad_rows(job.vectors)), None)
    if bad is not None:
        _fail(job, EngineError(f"input[{bad}]: the model computed values that are no numbers"))
        return
    with suppress(InvalidStateError):  # cancelled
        job.future.set_result(job.vectors)


def _fail(job: Job, error: Exception) -> None:
    with suppress(InvalidStateError):
        job.future.set_exception(error)
