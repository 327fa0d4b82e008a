"""RMS normalization."""

import torch
from torch import Tensor, nn


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """Return `x` in float32, divided by the root mean square of its last dimension."""
    x32 = x.float()
    return x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    """RMS normalization with a learnt weight for each dimension."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed = rms_norm(x, self.eps) * self.weight
        if torch.is_autocast_enabled("cpu"):
            # One cast here; otherwise every matrix product that follows would cast again.
            return normed.to(torch.get_autocast_dtype("cpu"))
        return normed
