"""Before a model is loaded: what was left to us is chosen, and what cannot fit is refused. Pure."""

from __future__ import annotations

from dataclasses import replace

from l4cli.amounts import gib, rounded_tokens, tokens
from l4cli.engine.kv import num_sequences
from l4cli.errors import ModelLoadError
from l4cli.fit.choose import (
    Fit,
    Verdict,
    Wishes,
    largest_context,
    place,
    prefill_on,
    smallest_kv_type,
)
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.shape import ModelShape
from l4cli.fit.wanted import ROOM_FOR_CONTEXT, Decision, Wanted


def choose(shape: ModelShape, wanted: Wanted, hardware: Hardware) -> Decision:
    """How to load a model of that shape on that machine. Raises ModelLoadError."""
    wished = wishes(wanted)
    n_ctx = _context(shape, wanted)
    kv_type = "f16" if wanted.kv_type == "auto" else wanted.kv_type
    n_seq_max = num_sequences(
        wanted.n_seq_max, unified=wanted.unified, with_states=wanted.with_states
    )
    spec = ContextSpec(n_ctx, n_seq_max, kv_type=kv_type, unified=wanted.unified)
    if wanted.kv_type == "auto":
        spec = replace(spec, kv_type=smallest_kv_type(shape, spec, hardware, wished))
    if wanted.n_ctx == "auto":
        spec = replace(spec, n_ctx=_as_much_as_fits(shape, spec, hardware, wished))
    fit = place(shape, spec, hardware, wished)
    if fit.verdict == "too large" and not wanted.force:
        raise ModelLoadError(_refusal(shape, fit, hardware, wished))
    return Decision(
        n_ctx=spec.n_ctx,
        kv_type=spec.kv_type,
        gpu_layers=_layers(shape, fit, hardware, wanted),
        cpu_moe=fit.placement.cpu_moe,
        split=tuple(map(float, fit.placement.split)) if len(hardware.gpus) > 1 else (),
        repack=fit.placement.repack,
        prefill_on=prefill_on(shape, fit, hardware),
        line=_line(shape, fit, hardware, wanted),
    )


def _as_much_as_fits(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, wishes: Wishes
) -> int:
    """The longest context that moves no weights to a slower place than they have without.

    Of the RAM that is left beside them it takes half: others want some, too.
    """
    fit = place(shape, spec, hardware, wishes)
    left = max(0, hardware.ram_usable - fit.use.ram.weights)
    hardware = replace(hardware, ram_free=hardware.ram_free - left // 2)
    placed = fit.placement
    as_placed = Wishes(placed.gpu_layers, placed.cpu_moe, placed.split) if placed.split else wishes
    if fit.verdict == "too large":
        verdicts: tuple[Verdict, ...] = ("fits", "from disk")
        most = max(largest_context(shape, spec, hardware, wishes, verdict=v) for v in verdicts)
    else:
        most = largest_context(shape, spec, hardware, as_placed, verdict=fit.verdict)
    return most or spec.n_ctx


def _layers(shape: ModelShape, fit: Fit, hardware: Hardware, wanted: Wanted) -> int:
    """Layers on the cards as llama.cpp is told: -1 for all."""
    if wanted.gpu_layers != "auto" or not hardware.gpus:
        return wanted.layers
    return -1 if fit.placement.gpu_layers > shape.n_layers else fit.placement.gpu_layers


def _context(shape: ModelShape, wanted: Wanted) -> int:
    n_ctx = ROOM_FOR_CONTEXT if wanted.n_ctx == "auto" else wanted.n_ctx
    return min(n_ctx, shape.n_ctx_train * wanted.n_seq_max or n_ctx)


def wishes(wanted: Wanted) -> Wishes:
    """What is asked for of the placement; the rest is left to us."""
    split = wanted.split if wanted.split not in (None, "auto") else None
    leaves_layers = wanted.gpu_layers == "auto"
    if isinstance(wanted.cpu_moe, int):
        cpu_moe: int | None = wanted.cpu_moe
    else:
        cpu_moe = None if wanted.cpu_moe == "auto" or leaves_layers else 0
    return Wishes(
        gpu_layers=None if wanted.gpu_layers == "auto" else wanted.gpu_layers,
        cpu_moe=cpu_moe,
        split=None if split is None else tuple(map(float, split)),
    )


def _line(shape: ModelShape, fit: Fit, hardware: Hardware, wanted: Wanted) -> str | None:
    """What was chosen, and what it leaves; or that the weights come from disk."""
    slow = f"{gib(fit.missing)} of the weights stay on disk, for RAM is short of so much: slow"
    if not wanted.leaves_something:
        return slow if fit.verdict == "from disk" else None
    takes = [
        f"{gib(held.total)} of {gib(gpu.usable)} on {gpu.name}"
        for gpu, held in zip(hardware.gpus, fit.use.gpus, strict=False)
    ]
    takes.append(f"{gib(fit.use.ram.total)} of {gib(hardware.ram_usable)} RAM")
    with_context = "" if wanted.n_ctx == "auto" else f" with {tokens(fit.spec.n_ctx)} tokens"
    why = slow if fit.verdict == "from disk" else f"takes {', '.join(takes)}{with_context}"
    return f"chosen: {', '.join(_chosen(shape, fit, hardware, wanted))}: {why}"


def _chosen(shape: ModelShape, fit: Fit, hardware: Hardware, wanted: Wanted) -> list[str]:
    """What was left to us, as it came out."""
    chosen = []
    if wanted.n_ctx == "auto":
        chosen.append(f"context {tokens(fit.spec.n_ctx)}")
    if wanted.kv_type == "auto":
        chosen.append(f"KV cache {fit.spec.kv_type}")
    if "auto" not in (wanted.gpu_layers, wanted.cpu_moe, wanted.split):
        return chosen
    if not hardware.gpus:
        return [*chosen, "all in RAM (there is no graphics card)"]
    chosen.append(f"{fit.placement.gpu_layers} of {shape.n_layers + 1} layers on the GPU")
    if fit.placement.cpu_moe and shape.routed_bytes:
        chosen.append(f"experts of {fit.placement.cpu_moe} layers in RAM")
    return chosen


def _refusal(shape: ModelShape, fit: Fit, hardware: Hardware, wishes: Wishes) -> str:
    lacking = ", ".join(f"{each.device} lacks {gib(each.n_bytes)}" for each in fit.shortfalls)
    parts = f"{gib(shape.n_bytes)} of weights, {gib(fit.use.kv)} of KV cache"
    ways = []
    verdicts: tuple[Verdict, ...] = ("fits", "from disk")
    for verdict in verdicts:
        most = largest_context(shape, fit.spec, hardware, wishes, verdict=verdict)
        if most:
            ways.append(f"--ctx {rounded_tokens(most)}")
            break
    if hardware.gpus and wishes.gpu_layers is not None:
        ways.append("--gpu-layers auto")
    if fit.spec.kv_type == "f16":
        ways.append("--kv-type q8_0")
    ways.append("--force to try all the same")
    return f"{shape.name} does not fit: {lacking} ({parts}); try {', '.join(ways)}"
