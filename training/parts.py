"""What the parts of the model share: its dimensions, and how it norms."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The checkpoint's dimensions. llama.cpp fixes chunk, floor, scale and the NoPE interval. As in
    Maverick, every second layer routes: two layers in eight look across chunks, so that what the
    first has found the second can use, at the size of four layers that all route."""

    vocab_size: int
    hidden: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 128
    experts: int = 16
    expert_width: int = 256
    dense_width: int = 256
    moe_interval: int = 2
    eps: float = 1e-5
    rope_theta: float = 500000.0
    chunk: int = 8192
    nope_interval: int = 4
    temperature_floor: int = 8192
    temperature_scale: float = 0.1
    context: int = 131072

    def is_global(self, layer: int) -> bool:
        """Whether it sees its whole sequence, without RoPE."""
        return (layer + 1) % self.nope_interval == 0

    def is_moe(self, layer: int) -> bool:
        return (layer + 1) % self.moe_interval == 0


def rms(x: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Cast here where autocast is on: else each matrix behind it would cast it anew."""
        normed = rms(x, self.eps) * self.weight
        if torch.is_autocast_enabled("cpu"):
            return normed.to(torch.get_autocast_dtype("cpu"))
        return normed
