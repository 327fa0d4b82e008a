"""Compares attention by blocks, its gradients too, with torch's own, in float64:
python -m training.check_attention"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from training.attention import Behind, attention

HEADS, KV_HEADS, DIM = 4, 2, 16
CASES = ((1, 1, 0), (300, 300, 0), (700, 700, 90), (700, 40, 90))  # tokens, wanted, behind


def drawn(*sizes: int) -> Tensor:
    return torch.randn(*sizes, dtype=torch.float64).requires_grad_()


def plainly(q: Tensor, k: Tensor, v: Tensor, indices: Tensor, behind: Behind) -> Tensor:
    own = torch.zeros(len(indices), k.shape[1], dtype=q.dtype)
    own.masked_fill_(torch.arange(k.shape[1]) > indices[:, None], float("-inf"))
    k, v = torch.cat([behind.keys, k], 1), torch.cat([behind.values, v], 1)
    mask = torch.cat([behind.bias, own], 1)
    return scaled_dot_product_attention(q[None], k[None], v[None], mask, enable_gqa=True)[0]


def main() -> None:
    torch.manual_seed(0)
    for tokens, wanted, more in CASES:
        inputs = (
            drawn(HEADS, wanted, DIM),
            drawn(KV_HEADS, tokens, DIM),
            drawn(KV_HEADS, tokens, DIM),
        )
        indices = torch.randperm(tokens)[:wanted].sort().values
        bias = torch.randn(wanted, more, dtype=torch.float64)
        behind = Behind(drawn(KV_HEADS, more, DIM), drawn(KV_HEADS, more, DIM), bias)
        grad = torch.randn(HEADS, wanted, DIM, dtype=torch.float64)
        results = []
        for attend in (attention, plainly):
            seen = attend(*inputs, indices, behind)
            results.append([seen, *torch.autograd.grad(seen, (*inputs, behind.keys), grad)])
        errors = [float((a - b).norm()) for a, b in zip(*results, strict=True)]
        print(f"{wanted} of {tokens} tokens, {more} behind: largest error {max(errors):.1e}")


if __name__ == "__main__":
    main()
