"""The optimizers: Muon for the matrices that every token passes, Adam for all other weights."""

import torch
from torch import Tensor

from training.precision import COMPUTE_TYPE

WEIGHT_DECAY = 0.05
# Parts of the names of the matrices that Muon updates.
MATRICES = (
    "self_attn.",
    "shared_expert.",
    "feed_forward.gate_proj",
    "feed_forward.up_proj",
    "feed_forward.down_proj",
)

Named = tuple[str, Tensor]  # a weight and its name


def orthogonal(update: Tensor, rounds: int = 5) -> Tensor:
    """Return the update with all singular values pulled towards 1, by Newton-Schulz iterations.

    The coefficients are those of Muon (https://kellerjordan.github.io/posts/muon/).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.to(COMPUTE_TYPE)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal and scaled to the size of an Adam step."""

    def __init__(self, weights: list[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                running = state["momentum"]
                running.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonal(weight.grad.lerp(running, group["momentum"]))
                size = 0.2 * max(weight.shape[-2:]) ** 0.5
                weight.mul_(1 - group["lr"] * WEIGHT_DECAY).add_(update, alpha=-group["lr"] * size)


def cost(name: str, weight: Tensor) -> float:
    """Return about what an update of the weight costs; one element costs Adam 1."""
    return weight.numel() * (12.0 if _is_matrix(name, weight) else 1.0)


def make(named: list[Named], lr: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers of these weights. Norms and probes have no weight decay."""
    matrices, decayed, plain = [], [], []
    for name, weight in named:
        if _is_matrix(name, weight):
            matrices.append(weight)
        elif weight.dim() > 1 and not name.startswith("probes."):
            decayed.append(weight)
        else:
            plain.append(weight)
    adam = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": WEIGHT_DECAY},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    return [Muon(matrices, lr), adam]


def set_rate(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """Set the learning rate of all optimizers."""
    for opt in optimizers:
        for group in opt.param_groups:
            group["lr"] = lr


def _is_matrix(name: str, weight: Tensor) -> bool:
    return weight.dim() == 2 and any(part in name for part in MATRICES)
