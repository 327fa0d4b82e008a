"""Attention by blocks, and its gradients, are those of torch's own attention."""

import pytest

torch = pytest.importorskip("torch", reason="the `train` extra is not installed")

from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from training.attention import FilledGaps, attention  # noqa: E402

pytestmark = pytest.mark.train

HEADS, KV_HEADS, DIM = 4, 2, 16


def drawn(*sizes):
    return torch.randn(*sizes, dtype=torch.float64).requires_grad_()


def plain_attention(q, k, v, indices, gaps):
    """Return the same attention with one mask over the filled places and the tokens."""
    own = torch.zeros(len(indices), k.shape[1], dtype=q.dtype)
    own.masked_fill_(torch.arange(k.shape[1]) > indices[:, None], float("-inf"))
    k, v = torch.cat([gaps.keys, k], 1), torch.cat([gaps.values, v], 1)
    mask = torch.cat([gaps.bias, own], 1)
    return scaled_dot_product_attention(q[None], k[None], v[None], mask, enable_gqa=True)[0]


@pytest.mark.parametrize(
    ("tokens", "queries", "places"), [(1, 1, 0), (300, 300, 0), (700, 700, 90), (700, 40, 90)]
)
def test_outputs_and_gradients_equal_torchs(tokens, queries, places):
    torch.manual_seed(0)
    q, k, v = (
        drawn(HEADS, queries, DIM),
        drawn(KV_HEADS, tokens, DIM),
        drawn(KV_HEADS, tokens, DIM),
    )
    indices = torch.randperm(tokens)[:queries].sort().values
    bias = torch.randn(queries, places, dtype=torch.float64)
    gaps = FilledGaps(drawn(KV_HEADS, places, DIM), drawn(KV_HEADS, places, DIM), bias)
    grad = torch.randn(HEADS, queries, DIM, dtype=torch.float64)
    inputs = (q, k, v, gaps.keys, gaps.values)
    results = []
    for attend in (attention, plain_attention):
        output = attend(q, k, v, indices, gaps)
        results.append([output, *torch.autograd.grad(output, inputs, grad)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
