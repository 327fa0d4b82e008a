"""Processes that train one model together (data parallel, on one machine).

All processes hold the same weights in shared memory, and each has its own gradients there. After a
step's batches, each process sums the gradients of its share of the weights and updates that share.
Threads of one process took a fifth longer, since they share Python's lock.
"""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn

PATIENCE = 900.0  # seconds; a process that waits longer assumes that the others have died
CLIP = 1.0  # the most that the gradient's norm may be


@dataclass
class Worker:
    """One process's view of the training.

    rank: the process's number; 0 is the one that the user started.
    own: the indices of the weights that this process updates.
    weights: all weights, shared.
    gradients: each process's gradients of all weights, shared.
    clipped: the norm is taken of the first `clipped` weights' gradients, and only these are
        clipped.
    norms: each process's part of the squared norm.
    agreed: the value that `from_first` passes on.
    pipes: a (receiver, sender) from each other process to the first one.
    """

    rank: int
    own: list[int]
    weights: list[nn.Parameter]
    gradients: list[list[Tensor]]
    clipped: int
    norms: Tensor
    agreed: Tensor
    barrier: Barrier
    pipes: list[tuple[Connection, Connection]]

    @property
    def size(self) -> int:
        return len(self.gradients)

    def begin(self) -> None:
        """Make this process's backward passes add to its own gradients."""
        for weight, gradient in zip(self.weights, self.gradients[self.rank], strict=True):
            weight.grad = gradient

    def wait(self) -> None:
        """Wait for all processes to arrive here."""
        self.barrier.wait(PATIENCE)

    def from_first(self, value: float) -> float:
        """Return the first process's value in all processes."""
        if self.rank == 0:
            self.agreed.fill_(value)
        self.wait()
        return float(self.agreed)

    def gather(self, found: Any) -> list[Any]:
        """Return all processes' values in the first process; an empty list in the others."""
        if self.rank:
            self.pipes[self.rank - 1][1].send(found)
            return []
        return [found, *(_receive(receiver) for receiver, _ in self.pipes)]

    @torch.no_grad()
    def update(self, step: Callable[[], None]) -> None:
        """Sum and clip the gradients of this process's share of the weights, then call `step`."""
        self.wait()
        summed = self.gradients[self.rank]
        own = [summed[i] for i in self.own]
        for rank, others in enumerate(self.gradients):
            if rank != self.rank:
                torch._foreach_add_(own, [others[i] for i in self.own])
        clipped = [summed[i] for i in self.own if i < self.clipped]
        self.norms[self.rank] = torch.stack([one.square().sum() for one in clipped]).sum()
        self.wait()
        norm = float(self.norms.sum().sqrt())
        if not isfinite(norm):
            raise FloatingPointError("a gradient is not finite; the last save is older and sound")
        if norm > CLIP:
            torch._foreach_mul_(clipped, CLIP / norm)
        step()
        torch._foreach_zero_(summed)
        self.wait()


def distribute(costs: list[float], size: int) -> list[list[int]]:
    """Divide indices among `size` workers: the costliest first, each to the one with the least."""
    taken: list[list[int]] = [[] for _ in range(size)]
    sums = [0.0] * size
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = sums.index(min(sums))
        taken[least].append(index)
        sums[least] += costs[index]
    return taken


def run_workers(
    size: int,
    weights: list[nn.Parameter],
    clipped: int,
    costs: list[float],
    work: Callable[[Worker], None],
) -> None:
    """Run `work` in `size` processes; this process is the first of them.

    clipped: see `Worker`.
    costs: the cost of updating each weight, by which the weights are divided.
    """
    for weight in weights:
        weight.share_memory_()
    context = mp.get_context("fork")
    gradients = [[torch.zeros_like(w).share_memory_() for w in weights] for _ in range(size)]
    norms, agreed = torch.zeros(size).share_memory_(), torch.zeros(()).double().share_memory_()
    barrier, owned = context.Barrier(size), distribute(costs, size)
    pipes = [context.Pipe(duplex=False) for _ in range(size - 1)]
    workers = [
        Worker(rank, owned[rank], weights, gradients, clipped, norms, agreed, barrier, pipes)
        for rank in range(size)
    ]
    others = [context.Process(target=_follow, args=(work, w), daemon=True) for w in workers[1:]]
    for process in others:
        process.start()
    for _, sender in pipes:
        sender.close()
    try:
        work(workers[0])
    except BaseException:
        for process in others:
            process.kill()
        raise
    for process in others:
        process.join()


def _receive(receiver: Connection) -> Any:
    """Return what a process sends; raise EOFError if the process has ended."""
    if not receiver.poll(PATIENCE):
        raise TimeoutError(f"a process has sent nothing for {PATIENCE:.0f} seconds")
    return receiver.recv()


def _follow(work: Callable[[Worker], None], worker: Worker) -> None:
    """Run `work` in a process other than the first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process decides when to stop
    for rank, (_, sender) in enumerate(worker.pipes, 1):
        if rank != worker.rank:
            sender.close()
    try:
        work(worker)
    except BaseException:
        worker.barrier.abort()
        raise
