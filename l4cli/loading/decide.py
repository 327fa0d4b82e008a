"""How a model is loaded: what was left open is chosen, and what cannot fit is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from l4cli.amounts import gib, rounded_tokens, tokens
from l4cli.engine.kv import num_sequences
from l4cli.engine.llamacpp.devices import devices
from l4cli.errors import ModelLoadError, UsageError
from l4cli.fit.choose import (
    Fit,
    PrefillOn,
    Verdict,
    largest_context,
    place,
    prefill_on,
    smallest_kv_type,
)
from l4cli.fit.hardware import Hardware, probe
from l4cli.fit.memory import ContextSpec
from l4cli.fit.shape import ModelShape
from l4cli.loading.file import ModelFile
from l4cli.loading.options import DEFAULT_N_CTX, LoadOptions
from l4cli.native.memory import free_memory_bytes
from l4cli.native.selftest import outcome

_HARMLESS_CTX = 65536  # tokens: below, only the weights can be too large
# Files of less than half the free memory, too small to hold large experts, are loaded without a
# look inside.
_LARGEST_SHARE = 2
_SMALL_FILE = 1 << 30


@dataclass(frozen=True, slots=True)
class Decision:
    """How to load a model. `line` says what was chosen and why, or what to expect; None: nothing.

    `repack` lets the CPU copy weights into its kernels' own order. `prefill_on` tells over which
    weights prompts are computed by themselves, where that is faster and there is room: over the
    same, or over others that lie as in the file. None: they are not.
    """

    n_ctx: int
    kv_type: str
    gpu_layers: int
    cpu_moe: int = 0
    split: tuple[float, ...] = ()
    repack: bool = True
    prefill_on: PrefillOn | None = None
    line: str | None = None


def decide(file: ModelFile, options: LoadOptions) -> Decision:
    """How to load that file on this machine; its header is read only where that can matter.

    Raises ModelLoadError, with what is lacking and the way out, for what cannot fit, and UsageError
    for cards that are not there.
    """
    check_cards(options)
    if options.leaves_something or _is_worth_a_look(file, options):
        decision = choose(file.shape, options, probe())
    else:
        decision = as_told(options)
    return _trusted(decision)


def choose(shape: ModelShape, options: LoadOptions, hardware: Hardware) -> Decision:
    """How to load a model of that shape on that machine. Pure. Raises ModelLoadError."""
    limits, n_ctx = options.placement, options.n_ctx
    n_seqs = options.n_seqs_with_room
    kept = DEFAULT_N_CTX if n_ctx == "auto" else n_ctx
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
    if fit.verdict == "too large" and not options.force:
        raise ModelLoadError(_refusal(shape, fit, hardware, options))
    return Decision(
        n_ctx=spec.n_ctx,
        kv_type=spec.kv_type,
        gpu_layers=_layers(shape, fit, hardware, options),
        cpu_moe=fit.placement.cpu_moe,
        split=tuple(map(float, fit.placement.split)) if len(hardware.gpus) > 1 else (),
        repack=fit.placement.repack,
        prefill_on=prefill_on(shape, fit, hardware),
        line=_line(shape, fit, hardware, options),
    )


def check_context(name: str, n_ctx: int, n_ctx_train: int, n_seq_max: int = 1) -> str | None:
    """The one rule for a context asked for: no sequence holds more than it was trained for.

    `n_ctx` tokens are for `n_seq_max` sequences together; `n_ctx_train` 0 is not known. UsageError
    where they could not hold so many. A line where one of them alone cannot, None if it can.
    """
    if not n_ctx_train or n_ctx <= n_ctx_train:
        return None
    if n_ctx <= n_ctx_train * n_seq_max:
        return (
            f"one sequence holds {n_ctx_train} of the {n_ctx} tokens of context: {name} was not "
            "trained for more"
        )
    whole = f"the {n_ctx_train} tokens that {name} was trained for"
    if n_seq_max > 1:
        whole = f"{n_seq_max} sequences of {whole}"
    raise UsageError(f"--ctx {n_ctx} is more than {whole}")


def as_told(options: LoadOptions) -> Decision:
    """Nothing to choose: everything as it was said."""
    return Decision(
        n_ctx=DEFAULT_N_CTX if options.n_ctx == "auto" else options.n_ctx,
        kv_type=options.kv_type,
        gpu_layers=-1 if options.gpu_layers == "auto" else options.gpu_layers,
        cpu_moe=options.cpu_moe if isinstance(options.cpu_moe, int) else 0,
        split=options.split or (),
    )


def _trusted(decision: Decision) -> Decision:
    """Without what the self-test found the installed llama.cpp to do wrong."""
    found = outcome()
    if not found.extra_buffers:
        prefill: PrefillOn | None = "same" if decision.prefill_on else None
        decision = replace(decision, repack=False, prefill_on=prefill)
    return decision if found.moving else replace(decision, prefill_on=None)


def check_cards(options: LoadOptions) -> None:
    """UsageError where something is asked of cards that are not there."""
    asks = isinstance(options.gpu_layers, int) and options.gpu_layers > 0
    shares = options.split or ()
    if not asks and not shares:
        return
    found = len(devices())
    if found == 0:
        option = f"--gpu-layers {options.gpu_layers}" if asks else "--tensor-split"
        raise UsageError(
            f"{option}: llama.cpp sees no graphics card here (is its driver loaded, and was "
            "llama-cpp-python built for it?); --gpu-layers auto takes what there is"
        )
    if shares and len(shares) != found:
        raise UsageError(f"--tensor-split names {len(shares)} cards, but there are {found}")


def _is_worth_a_look(file: ModelFile, options: LoadOptions) -> bool:
    """A guess that costs nothing: whether the file may be too large, or have large experts."""
    try:
        size = file.n_bytes
    except OSError:  # said better where it is opened
        return False
    if size > _SMALL_FILE:
        return True
    free = min(free_memory_bytes(), *(device.free for device in devices()), 1 << 62)
    n_ctx = 0 if options.n_ctx == "auto" else options.n_ctx
    return n_ctx > _HARMLESS_CTX or size > free // _LARGEST_SHARE


def _as_much_as_fits(
    shape: ModelShape, spec: ContextSpec, hardware: Hardware, options: LoadOptions
) -> int:
    """The longest context that moves no weights to a slower place than they have without.

    Of the RAM that is left beside them it takes half: others want some, too.
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
    """Layers on the cards as llama.cpp is told: -1 for all."""
    if options.gpu_layers != "auto":
        return options.gpu_layers
    are_all = not hardware.gpus or fit.placement.gpu_layers > shape.n_layers
    return -1 if are_all else fit.placement.gpu_layers


def _line(shape: ModelShape, fit: Fit, hardware: Hardware, options: LoadOptions) -> str | None:
    """What was chosen, and what it leaves; or that the weights come from disk."""
    slow = f"{gib(fit.missing)} of the weights stay on disk, for RAM is short of so much: slow"
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
    """What was left to us, as it came out."""
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
    """What is lacking, and the ways out."""
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
    ways.append("--force to try all the same")
    return f"{shape.name} does not fit: {lacking} ({parts}); try {', '.join(ways)}"
