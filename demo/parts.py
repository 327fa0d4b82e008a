"""What the parts of the model share: its dimensions, and how it norms."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The checkpoint's dimensions. llama.cpp fixes chunk, floor, scale and the NoPE interval."""

    vocab_size: int
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 128
    experts: int = 16
    expert_width: int = 256
    eps: float = 1e-5
    rope_theta: float = 500000.0
    chunk: int = 8192
    nope_interval: int = 4
    temperature_floor: int = 8192
    temperature_scale: float = 0.1
    context: int = 131072


def rms(x: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms(x, self.eps) * self.weight
