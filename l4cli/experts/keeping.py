"""What keeping only the hottest experts in fast memory would save. Pure.

Fast and slow memory are a graphics card and RAM, or without a card RAM and the disk. The estimate
follows `fit.speed`: a token reads every weight that it passes once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from l4cli.experts.counts import Choices
from l4cli.fit.hardware import DISK_BANDWIDTH, Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.placement import Placement
from l4cli.fit.shape import ModelShape
from l4cli.fit.speed import CPU_SHARE, GPU_SHARE, decode_tps

KEPT = (0.1, 0.25, 0.5, 0.75, 1.0)  # shares of the experts


@dataclass(frozen=True, slots=True)
class Kept:
    """What it means to keep the hottest experts of all layers in fast memory.

    num_experts: how many, of all layers together. n_bytes: their bytes. saved: those of the others.
    hits: the share of choices that they cover.
    tokens_per_second: estimated; None if it cannot be.
    """

    num_experts: int
    n_bytes: int
    saved: int
    hits: float
    tokens_per_second: float | None


def keepings(
    total: Choices,
    layers: Sequence[int],
    shape: ModelShape,
    base_tps: float,
    fast: str,
    hardware: Hardware,
) -> list[Kept]:
    """Return what keeping each share in KEPT means.

    total: choices [layers, experts]. layers: their numbers in the model.
    base_tps: tokens per second with everything in fast memory.
    fast: "GPU" or "RAM".
    """
    n_experts = total.shape[1]
    each = np.array([shape.blocks[layer].routed.total / n_experts for layer in layers])
    sizes = np.repeat(each, n_experts)
    chosen = total.ravel()
    # By choices a byte: a layer's experts may be larger than another's.
    order = np.argsort(-chosen / np.maximum(sizes, 1), kind="stable")
    all_choices, all_bytes = max(1, int(chosen.sum())), float(sizes.sum())
    found = []
    for share in KEPT:
        kept = order[: round(share * len(order))]
        # Bytes of experts that a token reads from slow memory.
        missed = chosen[order[len(kept) :]] @ sizes[order[len(kept) :]]
        per_token = shape.n_experts_used * len(layers) * missed / all_choices
        found.append(
            Kept(
                len(kept),
                round(float(sizes[kept].sum())),
                round(all_bytes - float(sizes[kept].sum())),
                float(chosen[kept].sum()) / all_choices,
                1 / (1 / base_tps + per_token * _slower(fast, hardware)) if base_tps else None,
            )
        )
    return found


def fast_memory(hardware: Hardware) -> str:
    """Return which memory the hottest experts would be kept in."""
    return "GPU" if hardware.gpus else "RAM"


def whole_tps(shape: ModelShape, spec: ContextSpec, hardware: Hardware) -> float:
    """Return the estimated tokens per second with all weights in fast memory."""
    if not hardware.gpus:
        return decode_tps(shape, spec, Placement(), hardware)
    everything = (shape.n_layers + 1,) + (0,) * (len(hardware.gpus) - 1)
    return decode_tps(shape, spec, Placement(split=everything), hardware)


def _slower(fast: str, hardware: Hardware) -> float:
    """Return the seconds that a byte takes longer from slow memory than from fast memory."""
    ram = 1 / (hardware.ram_bandwidth * CPU_SHARE)
    if fast == "GPU":
        return ram - 1 / (hardware.gpus[0].bandwidth * GPU_SHARE)
    return 1 / DISK_BANDWIDTH
