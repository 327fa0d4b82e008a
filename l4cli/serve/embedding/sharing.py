"""Shares batches between the requests of all clients. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from l4cli.engine.embedding import Vectors


@dataclass(eq=False, slots=True)
class Job:
    """The inputs of one request, some of which may be computed already.

    inputs: token ids, none empty.
    vectors: a row for each input.
    future: gets `vectors`, or the error; whoever cancels it wants no more of the job.
    waiting: the indices of inputs that are not computed, the longest first.
    """

    inputs: Sequence[Sequence[int]]
    vectors: Vectors
    future: Future[Vectors] = field(default_factory=Future)
    waiting: deque[int] = field(default_factory=deque)

    @classmethod
    def of(cls, inputs: Sequence[Sequence[int]], n_embd: int) -> Job:
        """A job of which nothing is computed."""
        longest_first = sorted(range(len(inputs)), key=lambda i: len(inputs[i]), reverse=True)
        vectors = np.zeros((len(inputs), n_embd), np.float32)
        return cls(inputs, vectors, waiting=deque(longest_first))


Taken = list[tuple[Job, int]]


def put_back(taken: Taken) -> None:
    """Have inputs that were taken, and not computed, wait again."""
    for job, index in reversed(taken):
        job.waiting.appendleft(index)


def next_batch(jobs: Sequence[Job], n_batch: int, n_seq_max: int) -> Taken:
    """Take the inputs that are computed next from the jobs, and return them.

    Jobs take turns with one input each, so a small request is not held up by a large one. An input
    that does not fit any more waits, and its job has no further turn in this batch.

    jobs: each has inputs that wait. n_batch: most tokens of a batch, and at least as many as any
    input has. n_seq_max: most inputs of a batch.
    """
    taken: Taken = []
    left = n_batch
    turns = deque(jobs)
    while turns and len(taken) < n_seq_max:
        job = turns.popleft()
        index = job.waiting[0]
        length = len(job.inputs[index])
        if length > left:
            continue
        taken.append((job, job.waiting.popleft()))
        left -= length
        if job.waiting:
            turns.append(job)
    return taken
