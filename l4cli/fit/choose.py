"""Chooses where the weights go, how long the context is, and the type of its KV cache. Pure.

Speed is given up in this order. On the cards: first routed experts move to RAM, one layer at a
time; then whole layers do. In RAM: first the copy in the order of the CPU's kernels is given up;
then weights stay on disk. Large experts are never copied, see `_repack_choices`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from l4cli.engine.kv import CELL_PADDING
from l4cli.engine.sizing import KV_PART, POOL_PART
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.placement import Placement, Use, fill, lay_out
from l4cli.fit.shape import ModelShape

Verdict = Literal["fits", "from disk", "too large"]
PrefillOn = Literal["same", "file order"]
_LARGE_EXPERT = 4 << 20  # bytes of one matrix
# Compute buffers of the usual size that both contexts need together: the one for prompts takes a
# large ubatch.
_PREFILL_BATCHES = 5
KV_TYPES = ("f16", "q8_0", "q4_0")  # best first


@dataclass(frozen=True, slots=True)
class PlacementLimits:
    """Fixed parts of a placement; None is chosen by `place`.

    gpu_layers: layers on the cards, the output counting as one; negative is all.
    cpu_moe: number of layers, from the first, whose routed experts stay in RAM.
    split: shares of the layers, one for each card.
    repack: whether weights in RAM are copied into the order of the CPU's kernels, if it has one.
    """

    gpu_layers: int | None = None
    cpu_moe: int | None = None
    split: tuple[float, ...] | None = None
    repack: bool | None = None


ANYTHING = PlacementLimits()


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A device, and the bytes that it lacks."""

    device: str
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A placed model with its context.

    use: bytes on each device.
    verdict: "fits"; "from disk": fits, except for `missing` bytes of weights that stay in the file;
        or "too large": does not fit.
    missing: bytes that do not fit in RAM.
    shortfalls: the devices that lack memory if the model is too large.
    """

    spec: ContextSpec
    placement: Placement
    use: Use
    verdict: Verdict
    missing: int = 0
    shortfalls: tuple[Shortfall, ...] = ()


def place(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, limits: PlacementLimits = ANYTHING
) -> Fit:
    """Return the fastest placement that fits, or else the one that lacks the fewest bytes."""
    best: Fit | None = None
    for split, cpu_moe in _card_placements(shape, spec, hardware, limits):
        for repack in _repack_choices(shape, hardware, limits):
            fit = _judge(shape, spec, hardware, Placement(split, cpu_moe, repack))
            if fit.verdict == "fits":
                return fit
            if best is None or _badness(fit) < _badness(best):
                best = fit
    assert best is not None
    return best


def _repack_choices(
    shape: ModelShape, hardware: Hardware, limits: PlacementLimits
) -> tuple[bool, ...]:
    """Return the values of `repack` to try, the faster first.

    `repack` is whether weights are copied into the order that the CPU's kernels prefer. In that
    order, ggml multiplies an expert by one token at a time (`forward_mul_mat_id` in
    ggml-cpu/repack.cpp), so each token reads its expert from memory; in the file's order, 16 tokens
    share one read. Measured without the copy: with experts of 23 MB prefill is 1.8 times as fast,
    with 5.6 MB 1.7 times; with 1.6 MB, which fit in a core's cache, decode is slower by a tenth.
    """
    if not hardware.repacks:
        return (True,)
    if limits.repack is not None:
        return (limits.repack,)
    is_large = shape.n_experts and shape.largest_routed > _LARGE_EXPERT * shape.n_experts
    return (False,) if is_large else (True, False)


def prefill_on(shape: ModelShape, fit: Fit, hardware: Hardware) -> PrefillOn | None:
    """Return which weights a second context for prompts uses (see DisaggregatedBackend).

    "same" are the weights of the first context; "file order" is a second set, loaded without the
    copy (`_repack_choices`). None: there is no second context; it would be no faster, or not fit.

    A second context is faster for models with experts on a CPU, because more tokens of prompts then
    share each read of an expert. Measured with prompts of 73 tokens, compared with one context for
    everything: prefill is 1.6 times as fast with a second set in file order where the first
    context's weights are copied, and 1.2 times with the same weights.
    """
    if hardware.gpus or not shape.n_experts or fit.verdict == "too large":
        return None
    ram = fit.use.ram
    copied = ram.weights - ram.mapped
    resident = ram.weights + copied if fit.verdict == "fits" else copied
    caches = hardware.ram_total // KV_PART * (1 + POOL_PART) // POOL_PART
    contexts = caches + _PREFILL_BATCHES * ram.compute
    if resident + contexts > hardware.ram_usable:
        return None
    return "file order" if copied else "same"


def largest_context(
    shape: ModelShape,
    spec: ContextSpec,
    hardware: Hardware,
    limits: PlacementLimits = ANYTHING,
    *,
    most: int | None = None,
    verdict: Verdict = "fits",
) -> int:
    """Return the most tokens of context with which the verdict is at least `verdict`; 0 if none.

    most: an upper limit in tokens; None is the length that the model was trained for.
    verdict: "fits", or "from disk" to accept that, too.
    """
    limit = most or shape.n_ctx_train or spec.n_ctx
    accepted = ("fits",) if verdict == "fits" else ("fits", "from disk")

    def is_enough(blocks: int) -> bool:
        tokens = blocks * CELL_PADDING * spec.n_regions
        return place(shape, replace(spec, n_ctx=tokens), hardware, limits).verdict in accepted

    high = max(1, limit // (CELL_PADDING * spec.n_regions))
    if is_enough(high):
        return limit
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_enough(middle) else (low, middle)
    return low * CELL_PADDING * spec.n_regions


def smallest_kv_type(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, limits: PlacementLimits = ANYTHING
) -> str:
    """Return the best KV cache type with which the context fits; the smallest if none does."""
    for kv_type in KV_TYPES:
        if place(shape, replace(spec, kv_type=kv_type), hardware, limits).verdict == "fits":
            return kv_type
    return KV_TYPES[-1]


def _card_placements(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, limits: PlacementLimits
) -> list[tuple[tuple[int, ...], int]]:
    """Return the placements to try: layers on each card, and `cpu_moe`."""
    n_all = shape.n_layers + 1
    if not hardware.gpus:
        return [((), 0)]
    if limits.gpu_layers is not None:
        wanted = n_all if limits.gpu_layers < 0 else min(n_all, limits.gpu_layers)
        moe = _fewest_in_ram(shape, spec, hardware, limits, wanted)
        return [(_split(shape, spec, hardware, limits, wanted, moe), moe)]
    moe = _fewest_in_ram(shape, spec, hardware, limits, n_all)
    layers = n_all
    if fill(shape, spec, hardware, n_all, moe) is None:
        layers = _most_on_cards(shape, spec, hardware, moe)
    return [(_split(shape, spec, hardware, limits, layers, moe), moe)]


def _fewest_in_ram(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, limits: PlacementLimits, layers: int
) -> int:
    """Return the smallest `cpu_moe` with which `layers` layers fit on the cards."""
    if limits.cpu_moe is not None:
        return min(shape.n_layers, limits.cpu_moe)
    if not shape.routed_bytes:
        return 0
    low, high = 0, shape.n_layers
    while low < high:
        middle = (low + high) // 2
        if fill(shape, spec, hardware, layers, middle) is None:
            low = middle + 1
        else:
            high = middle
    return low


def _most_on_cards(shape: ModelShape, spec: ContextSpec, hardware: Hardware, moe: int) -> int:
    low, high = 0, shape.n_layers
    while low < high:
        middle = (low + high + 1) // 2
        if fill(shape, spec, hardware, middle, moe) is None:
            high = middle - 1
        else:
            low = middle
    return low


def _split(
    shape: ModelShape,
    spec: ContextSpec,
    hardware: Hardware,
    limits: PlacementLimits,
    layers: int,
    moe: int,
) -> tuple[int, ...]:
    """Return the number of layers on each card.

    It follows the given shares; without any, cards are filled one after the other, or in shares of
    their usable memory if the layers do not fit.
    """
    if limits.split is None:
        found = fill(shape, spec, hardware, layers, moe)
        if found is not None:
            return found
    shares = limits.split or tuple(float(gpu.usable) for gpu in hardware.gpus)
    total, done, counts = sum(shares) or 1.0, 0.0, []
    for share in shares:
        before = round(layers * done / total)
        done += share
        counts.append(round(layers * done / total) - before)
    return tuple(counts)


def _judge(shape: ModelShape, spec: ContextSpec, hardware: Hardware, placement: Placement) -> Fit:
    use = lay_out(shape, spec, placement, hardware)
    lacking = (
        [
            Shortfall(gpu.name, held.total - gpu.usable)
            for gpu, held in zip(hardware.gpus, use.gpus, strict=True)
            if held.total > gpu.usable
        ]
        if use.gpus
        else []
    )
    missing = use.ram.total - hardware.ram_usable
    copies = placement.repack and bool(hardware.repacks)
    # Bytes that can stay in the mapped file. With a copy, all weights have to be in RAM.
    on_disk = 0 if copies else use.ram.mapped
    if missing > on_disk:
        lacking.append(Shortfall("RAM", missing - on_disk))
    if lacking:
        return Fit(spec, placement, use, "too large", max(0, missing), tuple(lacking))
    if missing > 0:
        return Fit(spec, placement, use, "from disk", missing)
    return Fit(spec, placement, use, "fits")


def _badness(fit: Fit) -> tuple[int, int]:
    order = ("fits", "from disk", "too large")
    return order.index(fit.verdict), sum(each.n_bytes for each in fit.shortfalls) + fit.missing
