"""Causal attention by blocks of queries, forward and backward, for a CPU.

Plain products on two-dimensional, contiguous pieces run near the processor's peak, where batched
ones of slices run at half of it; gradients are added in place, where autograd would add a tensor of
the full length for every block. At 8k tokens it takes half of what autograd makes of the same.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 256  # queries


@dataclass(frozen=True)
class Part:
    """A block of queries, its `rows` of all heads that share a kv head, one head behind the other
    [groups x rows, head_dim], and each key's share [groups x rows, end]."""

    head: int
    rows: slice
    queries: Tensor
    shares: Tensor


class Blocked(torch.autograd.Function):
    """Of queries [heads, wanted, head_dim] over keys and values [kv_heads, more + length,
    head_dim], of which the first ones lie behind: they take a bias [wanted, more] on their scores,
    and the others are seen as far as the queries' own rising `indices` [wanted]. What a backward
    pass needs, half the square of the length, is kept only where something is `learnt`."""

    @staticmethod
    def forward(
        ctx, queries: Tensor, keys: Tensor, values: Tensor, indices: Tensor, bias: Tensor,
        learnt: bool,
    ) -> Tensor:  # fmt: skip
        keys, values = keys.contiguous(), values.contiguous()
        kv_heads, _, dim = keys.shape
        by_kv = queries.unflatten(0, (kv_heads, -1))
        groups, more = by_kv.shape[1], bias.shape[1]
        blocks = indices.split(BLOCK)
        ends = [more + int(at[-1]) + 1 for at in blocks]
        seen = torch.empty_like(by_kv, memory_format=torch.contiguous_format)
        scratch = queries.new_empty(groups * BLOCK * ends[-1])
        sizes = [groups * len(at) * end for at, end in zip(blocks, ends, strict=True)]
        room = Room(queries.new_empty(kv_heads * sum(sizes))) if learnt else None
        parts: list[Part] = []
        for number, (at, end, size) in enumerate(zip(blocks, ends, sizes, strict=True)):
            rows = slice(number * BLOCK, number * BLOCK + len(at))
            own = int(at[0]) + more
            hidden = torch.arange(own - more, end - more) > at[:, None]
            for head in range(kv_heads):
                part = by_kv[head, :, rows].reshape(-1, dim)
                scores = scratch[:size].view(-1, end)
                torch.mm(part, keys[head, :end].T, out=scores)
                scores.mul_(dim**-0.5)
                by_query = scores.view(groups, -1, end)
                by_query[..., :more] += bias[rows]
                by_query[..., own:].masked_fill_(hidden, float("-inf"))
                shares = room.take(scores.shape) if room else scores
                torch._softmax(scores, -1, False, out=shares)
                seen[head, :, rows] = (shares @ values[head, :end]).unflatten(0, (groups, -1))
                if learnt:
                    parts.append(Part(head, rows, part, shares))
        ctx.save_for_backward(keys, values)
        ctx.parts, ctx.scratch, ctx.groups = parts, scratch, groups
        return seen.flatten(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        keys, values = ctx.saved_tensors
        kv_heads, _, dim = keys.shape
        grad = grad.unflatten(0, (kv_heads, -1))
        of_queries = torch.empty_like(grad, memory_format=torch.contiguous_format)
        of_keys, of_values = torch.zeros_like(keys), torch.zeros_like(values)
        for part in ctx.parts:
            head, rows, end = part.head, part.rows, part.shares.shape[1]
            own = grad[head, :, rows].reshape(-1, dim)
            of_values[head, :end].addmm_(part.shares.T, own)
            of_scores = ctx.scratch[: part.shares.numel()].view_as(part.shares)
            torch.mm(own, values[head, :end].T, out=of_scores)
            torch._softmax_backward_data(
                of_scores, part.shares, -1, of_scores.dtype, grad_input=of_scores
            )
            of_part = torch.mm(of_scores, keys[head, :end]).mul_(dim**-0.5)
            of_queries[head, :, rows] = of_part.unflatten(0, (ctx.groups, -1))
            of_keys[head, :end].addmm_(of_scores.T, part.queries, alpha=dim**-0.5)
        return of_queries.flatten(0, 1), of_keys, of_values, None, None, None


@dataclass
class Room:
    """Memory that is taken once and handed out in pieces: asking for each anew costs its pages."""

    memory: Tensor
    used: int = 0

    def take(self, shape: torch.Size) -> Tensor:
        begin = self.used
        self.used += shape.numel()
        return self.memory[begin : self.used].view(shape)
