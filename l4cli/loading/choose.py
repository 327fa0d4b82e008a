"""Chooses every load option that is "auto", and refuses a model that cannot fit. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from l4cli.amounts import gib, rounded_tokens, tokens
from l4cli.engine.kv import num_sequences
from l4cli.errors import ModelLoadError
from l4cli.fit.choose import (
    Fit,
    Verdict,
    largest_context,
    place,
    prefill_on,
    smallest_kv_type,
)
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.shape import ModelShape
from l4cli.loading.decision import Decision
from l4cli.loading.options import DEFAULT_N_CTX, LoadOptions


def choose(shape: ModelShape, options: LoadOptions, hardware: Hardware) -> Decision:
    """Return how to load a model of this shape on this machine. Pure.

    Raises ModelLoadError if the model does not fit, unless `options.force` is set.
    """
    limits, n_ctx = options.placement, options.n_ctx
    n_seqs = options.n_seqs_with_room
    kept = DEFAULT_N_CTX if n_ctx == "auto" else n_ctx
    is_planned = options.room is not None  # and was found to fit beside the other models
    spec = ContextSpec(
        min(kept, shape.n_ctx_train * n_seqs or kept),
        num_sequences(n_seqs, unified=True, with_states=options.store),
        kv_type="f16" if options.kv_type == "auto" else options.kv_type,
        unified=True,
    )
    if options.kv_type == "auto":
        spec = replace(spec, kv_type=smallest_kv_type(shape, spec, hardware, limits))
    if n_ctx == "auto":
        spec = replace(spec, n_ctx=_as_much_as_fits(shape, spec, hardware, options))
    fit = place(shape, spec, hardware, limits)
    if fit.verdict == "too large" and not options.force and not is_planned:
        raise ModelLoadError(_refusal(shape, fit, hardware, options))
    return Decision(
        n_ctx=spec.n_ctx,
        kv_type=spec.kv_type,
        gpu_layers=_layers(shape, fit, hardware, options),
        cpu_moe=fit.placement.cpu_moe,
        split=tuple(map(float, fit.placement.split)) if len(hardware.gpus) > 1 else (),
        repack=fit.placement.repack,
        # A second context, or second set of weights, has no place in a plan for several models.
        prefill_on=None if is_planned else prefill_on(shape, fit, hardware),
        line=_line(shape, fit, hardware, options),
    )


def _as_much_as_fits(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, options: LoadOptions
) -> int:
    """Return the longest context, in tokens, that moves no weights to a slower device.

    The context takes at most half of the RAM that the weights leave free; the other half is left
    to other programs.
    """
    limits = options.placement
    fit = place(shape, spec, hardware, limits)
    left = max(0, hardware.ram_usable - fit.use.ram.weights)
    hardware = replace(hardware, ram_free=hardware.ram_free - left // 2)
    if fit.verdict == "too large":
        verdicts: tuple[Verdict, ...] = ("fits", "from disk")
        most = max(largest_context(shape, spec, hardware, limits, verdict=v) for v in verdicts)
    else:
        placed = fit.placement
        as_placed = replace(
            limits, gpu_layers=placed.gpu_layers, cpu_moe=placed.cpu_moe, split=placed.split
        )
        fixed = as_placed if placed.split else limits
        most = largest_context(shape, spec, hardware, fixed, verdict=fit.verdict)
    return most or spec.n_ctx


def _layers(shape: ModelShape, fit: Fit, hardware: Hardware, options: LoadOptions) -> int:
    """Return llama.cpp's `n_gpu_layers`: the number of layers on the cards, -1 for all."""
    if options.gpu_layers != "auto":
        return options.gpu_layers
    are_all = not hardware.gpus or fit.placement.gpu_layers > shape.n_layers
    return -1 if are_all else fit.placement.gpu_layers


def _line(shape: ModelShape, fit: Fit, hardware: Hardware, options: LoadOptions) -> str | None:
    """Return one line with the choices made and the memory they take; None if nothing was chosen.

    If some weights have to be read from disk, the line says that instead of the memory.
    """
    slow = f"{gib(fit.missing)} of the weights do not fit in RAM and stay on disk: slow"
    if not options.leaves_something:
        return slow if fit.verdict == "from disk" else None
    takes = [
        f"{gib(held.total)} of {gib(gpu.usable)} on {gpu.name}"
        for gpu, held in zip(hardware.gpus, fit.use.gpus, strict=False)
    ]
    takes.append(f"{gib(fit.use.ram.total)} of {gib(hardware.ram_usable)} RAM")
    with_context = "" if options.n_ctx == "auto" else f" with {tokens(fit.spec.n_ctx)} tokens"
    why = slow if fit.verdict == "from disk" else f"takes {', '.join(takes)}{with_context}"
    return f"chosen: {', '.join(_chosen(shape, fit, hardware, options))}: {why}"


def _chosen(shape: ModelShape, fit: Fit, hardware: Hardware, options: LoadOptions) -> Iterator[str]:
    """Yield a phrase for each option that was "auto", with the value chosen."""
    if options.n_ctx == "auto":
        yield f"context {tokens(fit.spec.n_ctx)}"
    if options.kv_type == "auto":
        yield f"KV cache {fit.spec.kv_type}"
    if "auto" not in (options.gpu_layers, options.cpu_moe, options.tensor_split):
        return
    if not hardware.gpus:
        yield "all in RAM (there is no graphics card)"
        return
    yield f"{fit.placement.gpu_layers} of {shape.n_layers + 1} layers on the GPU"
    if fit.placement.cpu_moe and shape.routed_bytes:
        yield f"experts of {fit.placement.cpu_moe} layers in RAM"


def _refusal(shape: ModelShape, fit: Fit, hardware: Hardware, options: LoadOptions) -> str:
    """Return the error message: the memory that is missing, and the options that would help."""
    lacking = ", ".join(f"{each.device} lacks {gib(each.n_bytes)}" for each in fit.shortfalls)
    parts = f"{gib(shape.n_bytes)} of weights, {gib(fit.use.kv)} of KV cache"
    ways = []
    verdicts: tuple[Verdict, ...] = ("fits", "from disk")
    for verdict in verdicts:
        most = largest_context(shape, fit.spec, hardware, options.placement, verdict=verdict)
        if most:
            ways.append(f"--ctx {rounded_tokens(most)}")
            break
    if hardware.gpus and options.gpu_layers != "auto":
        ways.append("--gpu-layers auto")
    if fit.spec.kv_type == "f16":
        ways.append("--kv-type q8_0")
    ways.append("--force to load it anyway")
    return f"{shape.name} does not fit: {lacking} ({parts}); try {', '.join(ways)}"
