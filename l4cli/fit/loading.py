"""Before a model is loaded: what was left to us is chosen, and what cannot fit is refused."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from l4cli.errors import ModelLoadError, UsageError
from l4cli.fit.choose import (
    Fit,
    Verdict,
    Wishes,
    largest_context,
    place,
    smallest_kv_type,
)
from l4cli.fit.hardware import Hardware, free_memory, probe
from l4cli.fit.memory import ContextSpec
from l4cli.fit.plan import about, gib, tokens
from l4cli.fit.shape import ModelShape, shape_of_file

_FIRST_PART = re.compile(r"(.+)-00001-of-(\d{5})\.gguf")

Auto = Literal["auto"]
_HARMLESS_CTX = 65536  # tokens: below, only the weights can be too large
ROOM_FOR_CONTEXT = 16384  # tokens that room is kept for where the context's length is still open
_LARGEST_SHARE = 2  # files of less than half the free memory are loaded without a look inside


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a model is to be loaded; "auto" leaves it to us. `n_ctx` tokens, `split` shares.

    `cpu_moe` None is 0 layers. With `force`, what does not fit is tried all the same.
    """

    n_ctx: int | Auto
    n_seq_max: int = 1
    unified: bool = True
    kv_type: str = "f16"
    gpu_layers: int | Auto = -1
    cpu_moe: int | Auto | None = None
    split: Sequence[float] | Auto | None = None
    force: bool = False

    @property
    def leaves_something(self) -> bool:
        """Whether there is anything to choose."""
        return "auto" in (self.n_ctx, self.kv_type, self.gpu_layers, self.cpu_moe, self.split)


@dataclass(frozen=True, slots=True)
class Decision:
    """How to load it. `line` says what was chosen and why, or what to expect; None: nothing."""

    n_ctx: int
    kv_type: str
    gpu_layers: int
    cpu_moe: int = 0
    split: tuple[float, ...] = ()
    repack: bool = True
    line: str | None = None


def decide(path: Path, wanted: Wanted) -> Decision:
    """How to load the GGUF `path`; its header is read only where that can matter.

    Raises ModelLoadError, with what is lacking and the way out, for what cannot fit, and UsageError
    for cards that are not there.
    """
    check_cards(wanted)
    if wanted.force and not wanted.leaves_something:
        return as_told(wanted)
    if not wanted.leaves_something and not _may_be_too_large(path, wanted):
        return as_told(wanted)
    return choose(shape_of_file(path), wanted, probe())


def choose(shape: ModelShape, wanted: Wanted, hardware: Hardware) -> Decision:
    """How to load a model of that shape on that machine. Pure; raises ModelLoadError."""
    wishes = _wishes(wanted)
    n_ctx = _context(shape, wanted)
    kv_type = "f16" if wanted.kv_type == "auto" else wanted.kv_type
    spec = ContextSpec(n_ctx, wanted.n_seq_max, kv_type=kv_type, unified=wanted.unified)
    if wanted.kv_type == "auto":
        spec = replace(spec, kv_type=smallest_kv_type(shape, spec, hardware, wishes))
    if wanted.n_ctx == "auto":
        spec = replace(spec, n_ctx=_as_much_as_fits(shape, spec, hardware, wishes))
    fit = place(shape, spec, hardware, wishes)
    if fit.verdict == "too large" and not wanted.force:
        raise ModelLoadError(_refusal(shape, fit, hardware, wishes))
    return Decision(
        n_ctx=spec.n_ctx,
        kv_type=spec.kv_type,
        gpu_layers=fit.placement.gpu_layers if hardware.gpus else _told_layers(wanted),
        cpu_moe=fit.placement.cpu_moe,
        split=tuple(map(float, fit.placement.split)) if len(hardware.gpus) > 1 else (),
        repack=fit.placement.repack,
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


def as_told(wanted: Wanted) -> Decision:
    """Nothing to choose: everything as it was said."""
    split = () if wanted.split in (None, "auto") else tuple(map(float, wanted.split or ()))
    return Decision(
        n_ctx=ROOM_FOR_CONTEXT if wanted.n_ctx == "auto" else wanted.n_ctx,
        kv_type=wanted.kv_type,
        gpu_layers=_told_layers(wanted),
        cpu_moe=wanted.cpu_moe if isinstance(wanted.cpu_moe, int) else 0,
        split=split,
    )


def check_cards(wanted: Wanted) -> None:
    """UsageError where something is asked of cards that are not there."""
    asks = isinstance(wanted.gpu_layers, int) and wanted.gpu_layers > 0
    shares = wanted.split if wanted.split not in (None, "auto") else ()
    if not asks and not shares:
        return
    from l4cli.engine.llamacpp.devices import devices

    found = len(devices())
    if found == 0:
        option = f"--gpu-layers {wanted.gpu_layers}" if asks else "--tensor-split"
        raise UsageError(
            f"{option}: llama.cpp sees no graphics card here (is its driver loaded, and was "
            "llama-cpp-python built for it?); --gpu-layers auto takes what there is"
        )
    if shares and len(shares) != found:
        raise UsageError(f"--tensor-split names {len(shares)} cards, but there are {found}")


def _may_be_too_large(path: Path, wanted: Wanted) -> bool:
    """A guess that costs nothing: whether it is worth looking into the file."""
    try:
        size = sum(file.stat().st_size for file in _files(path))
    except OSError:  # said better where it is opened
        return False
    from l4cli.engine.llamacpp.devices import devices

    free = min(free_memory(), *(device.free for device in devices()), 1 << 62)
    n_ctx = 0 if wanted.n_ctx == "auto" else wanted.n_ctx
    return n_ctx > _HARMLESS_CTX or size > free // _LARGEST_SHARE


def _files(path: Path) -> list[Path]:
    """The files of a GGUF whose first or only one is `path`."""
    match = _FIRST_PART.fullmatch(path.name)
    if match is None:
        return [path]
    return list(path.parent.glob(f"{glob.escape(match[1])}-?????-of-{match[2]}.gguf"))


def _context(shape: ModelShape, wanted: Wanted) -> int:
    n_ctx = ROOM_FOR_CONTEXT if wanted.n_ctx == "auto" else wanted.n_ctx
    return min(n_ctx, shape.n_ctx_train or n_ctx)


def _wishes(wanted: Wanted) -> Wishes:
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


def _told_layers(wanted: Wanted) -> int:
    return -1 if wanted.gpu_layers == "auto" else wanted.gpu_layers


def _line(shape: ModelShape, fit: Fit, hardware: Hardware, wanted: Wanted) -> str | None:
    """What was chosen, and what it leaves; or that the weights come from disk."""
    slow = f"{gib(fit.missing)} of the weights stay on disk, for RAM is short of so much: slow"
    if not wanted.leaves_something:
        return slow if fit.verdict == "from disk" else None
    chosen = [f"context {tokens(fit.spec.n_ctx)}", f"KV cache {fit.spec.kv_type}"]
    if hardware.gpus:
        chosen.append(f"{fit.placement.gpu_layers} of {shape.n_layers + 1} layers on the GPU")
        if fit.placement.cpu_moe and shape.routed_bytes:
            chosen.append(f"experts of {fit.placement.cpu_moe} layers in RAM")
    takes = [
        f"{gib(held.total)} of {gib(gpu.usable)} on {gpu.name}"
        for gpu, held in zip(hardware.gpus, fit.use.gpus, strict=False)
    ]
    takes.append(f"{gib(fit.use.ram.total)} of {gib(hardware.ram_usable)} RAM")
    why = slow if fit.verdict == "from disk" else f"takes {', '.join(takes)}"
    return f"chosen: {', '.join(chosen)}: {why}"


def _refusal(shape: ModelShape, fit: Fit, hardware: Hardware, wishes: Wishes) -> str:
    lacking = ", ".join(f"{each.device} lacks {gib(each.n_bytes)}" for each in fit.shortfalls)
    parts = f"{gib(shape.n_bytes)} of weights, {gib(fit.use.kv)} of KV cache"
    ways = []
    verdicts: tuple[Verdict, ...] = ("fits", "from disk")
    for verdict in verdicts:
        most = largest_context(shape, fit.spec, hardware, wishes, verdict=verdict)
        if most:
            ways.append(f"--ctx {about(most)}")
            break
    if hardware.gpus and wishes.gpu_layers is not None:
        ways.append("--gpu-layers auto")
    if fit.spec.kv_type == "f16":
        ways.append("--kv-type q8_0")
    ways.append("--force to try all the same")
    return f"{shape.name} does not fit: {lacking} ({parts}); try {', '.join(ways)}"
