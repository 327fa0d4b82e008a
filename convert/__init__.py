"""Hugging Face checkpoints to quantized GGUF in one pass, without torch or llama.cpp's tools.

    plan = convert.plan("Llama-4-Scout-17B-16E-Instruct", "Q4_K_M")   # headers only
    print(plan.n_bytes, plan.bits_per_weight)
    convert.convert(plan, "scout.gguf")

    options = convert.TypeOptions(imatrix="scout.imatrix.gguf", cold_experts="Q6_K")
    plan = convert.plan("Llama-4-Scout-17B-16E-Instruct", "IQ2_XXS", options=options)

Importing this package loads neither numpy nor any library; the functions do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convert.errors import ConvertError
from convert.ftypes import FTYPES
from convert.types import (
    Finding,
    Plan,
    PlannedTensor,
    Progress,
    Report,
    TensorCheck,
    TypeOptions,
    TypeSize,
    Verification,
)

__all__ = [
    "FTYPES",
    "ConvertError",
    "Finding",
    "Plan",
    "PlannedTensor",
    "Progress",
    "Report",
    "TensorCheck",
    "TypeOptions",
    "TypeSize",
    "Verification",
    "convert",
    "plan",
    "sizes",
    "verify",
]

DEFAULT_RAM = 512 << 20


def plan(
    src: str | Path,
    ftype: str,
    *,
    options: TypeOptions | None = None,
    force: bool = False,
) -> Plan:
    """Decide the conversion of the checkpoint directory `src` to `ftype` (any case).

    Reads headers, config and tokenizer, no weights; and the imatrix, if `options` names one. With
    `force`, findings that mean the model would run wrong are left to the caller in
    `Plan.findings`. Raises ConvertError.
    """
    from convert.planning import make_plan

    return make_plan(Path(src), ftype, options or TypeOptions(), force=force)


def sizes(src: str | Path, *, options: TypeOptions | None = None) -> tuple[TypeSize, ...]:
    """What every ftype would make of the checkpoint directory `src`, from headers alone.

    Types that need an importance matrix are sized as if there were one. Raises ConvertError.
    """
    from convert.planning import list_sizes

    return list_sizes(Path(src), options or TypeOptions())


def convert(
    plan: Plan,
    out: str | Path,
    *,
    threads: int | None = None,
    ram: int = DEFAULT_RAM,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Carry out `plan` into the file `out`, replacing it only when the new file is whole.

    `threads` defaults to the CPUs at hand; `ram` bounds the working buffers, in bytes; `progress`
    is called from this thread after every tile. Raises ConvertError, and what `progress` raises.
    """
    from convert.pipeline import run

    return run(plan, Path(out), threads=threads, ram=ram, progress=progress)


def verify(
    plan: Plan,
    path: str | Path,
    *,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Compare the GGUF `path`, by whomever it was made, with the checkpoint and type of `plan`.

    Every weight is read back and dequantized; metadata, vocabulary and tensor types are compared.
    Raises ConvertError if either side cannot be read.
    """
    from convert.verification import check

    return check(plan, Path(path), threads=threads, progress=progress)
