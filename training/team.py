"""Processes that train one model together.

All of them hold the same weights, in shared memory, and each has gradients of its own there. After
a step's batches each process adds up the gradients of its share of the weights and updates these.
What threads of one process would share besides, Python's lock, cost a fifth of the time.
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

PATIENCE = 900.0  # seconds; who waits longer is alone
CLIP = 1.0  # the gradient's norm at most


@dataclass
class Team:
    """One process's view: its rank, which of the weights are its own to update, all weights, and
    every process's gradients of them, the first `clipped` of which are clipped by their norm."""

    rank: int
    own: list[int]
    weights: list[nn.Parameter]
    gradients: list[list[Tensor]]
    clipped: int
    norms: Tensor
    agreed: Tensor
    barrier: Barrier
    pipes: list[tuple[Connection, Connection]]  # from each other process to the first one

    @property
    def size(self) -> int:
        return len(self.gradients)

    def begin(self) -> None:
        """Has this process's backward passes add to its own gradients."""
        for weight, gradient in zip(self.weights, self.gradients[self.rank], strict=True):
            weight.grad = gradient

    def meet(self) -> None:
        self.barrier.wait(PATIENCE)

    def agree(self, value: float) -> float:
        """The first process's value, for all."""
        if self.rank == 0:
            self.agreed.fill_(value)
        self.meet()
        return float(self.agreed)

    def gather(self, found: Any) -> list[Any]:
        """What all processes found, in the first; nothing in the others."""
        if self.rank:
            self.pipes[self.rank - 1][1].send(found)
            return []
        return [found, *(_receive(receiver) for receiver, _ in self.pipes)]

    @torch.no_grad()
    def update(self, step: Callable[[], None]) -> None:
        """Has `step` update what is this process's own by the gradients of all, clipped."""
        self.meet()
        summed = self.gradients[self.rank]
        own = [summed[i] for i in self.own]
        for rank, others in enumerate(self.gradients):
            if rank != self.rank:
                torch._foreach_add_(own, [others[i] for i in self.own])
        clipped = [summed[i] for i in self.own if i < self.clipped]
        self.norms[self.rank] = torch.stack([one.square().sum() for one in clipped]).sum()
        self.meet()
        norm = float(self.norms.sum().sqrt())
        if not isfinite(norm):
            raise FloatingPointError("a gradient is not finite; what is saved is older and sound")
        if norm > CLIP:
            torch._foreach_mul_(clipped, CLIP / norm)
        step()
        torch._foreach_zero_(summed)
        self.meet()


def shares(costs: list[float], size: int) -> list[list[int]]:
    """Which of some things each takes, the costliest first and each to who has least."""
    taken: list[list[int]] = [[] for _ in range(size)]
    sums = [0.0] * size
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = sums.index(min(sums))
        taken[least].append(index)
        sums[least] += costs[index]
    return taken


def work_together(
    size: int,
    weights: list[nn.Parameter],
    clipped: int,
    costs: list[float],
    work: Callable[[Team], None],
) -> None:
    """Runs `work` in so many processes, this one the first of them; `costs` are what updating each
    of the weights takes."""
    for weight in weights:
        weight.share_memory_()
    context = mp.get_context("fork")
    gradients = [[torch.zeros_like(w).share_memory_() for w in weights] for _ in range(size)]
    norms, agreed = torch.zeros(size).share_memory_(), torch.zeros(()).double().share_memory_()
    barrier, owned = context.Barrier(size), shares(costs, size)
    pipes = [context.Pipe(duplex=False) for _ in range(size - 1)]
    teams = [
        Team(rank, owned[rank], weights, gradients, clipped, norms, agreed, barrier, pipes)
        for rank in range(size)
    ]
    others = [context.Process(target=_follow, args=(work, t), daemon=True) for t in teams[1:]]
    for process in others:
        process.start()
    for _, sender in pipes:
        sender.close()
    try:
        work(teams[0])
    except BaseException:
        for process in others:
            process.kill()
        raise
    for process in others:
        process.join()


def _receive(receiver: Connection) -> Any:
    """What a process sends; EOFError if it has ended instead."""
    if not receiver.poll(PATIENCE):
        raise TimeoutError("a process sends nothing any more")
    return receiver.recv()


def _follow(work: Callable[[Team], None], team: Team) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process decides
    for rank, (_, sender) in enumerate(team.pipes, 1):
        if rank != team.rank:
            sender.close()
    try:
        work(team)
    except BaseException:
        team.barrier.abort()
        raise
