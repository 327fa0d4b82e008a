"""Hugging Face checkpoints to quantized GGUF in one pass, without torch or llama.cpp's tools.

    plan = convert.plan("Llama-4-Scout-17B-16E-Instruct", "Q4_K_M")   # headers only
    print(plan.n_bytes, plan.bits_per_weight)
    convert.convert(plan, "scout.gguf")

    options = convert.TypeOptions(imatrix="scout.imatrix.gguf", cold_experts="Q6_K")
    plan = convert.plan("Llama-4-Scout-17B-16E-Instruct", "IQ2_XXS", options=options)

Importing this package loads neither numpy nor any library; the functions do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from convert.checkpoint.shards import ShardStore
from convert.errors import ConvertError, DiskError
from convert.gguf.ftypes import FTYPES
from convert.types import (
    Estimate,
    Finding,
    Leftover,
    Plan,
    PlannedTensor,
    Progress,
    Report,
    Split,
    TensorCheck,
    TypeOptions,
    TypeSize,
    Verification,
)

if TYPE_CHECKING:
    from convert.description import Description

__all__ = [
    "FTYPES",
    "ConvertError",
    "Description",
    "DiskError",
    "Estimate",
    "Finding",
    "Leftover",
    "Plan",
    "PlannedTensor",
    "Progress",
    "Report",
    "ShardStore",
    "Split",
    "TensorCheck",
    "TypeOptions",
    "TypeSize",
    "Verification",
    "convert",
    "convert_all",
    "describe",
    "estimate",
    "file_type",
    "leftover",
    "plan",
    "plan_all",
    "sizes",
    "verify",
]


def plan(
    src: str | Path,
    ftype: str,
    *,
    options: TypeOptions | None = None,
    force: bool = False,
    shards: ShardStore | None = None,
) -> Plan:
    """Decide the conversion of the checkpoint directory `src` to `ftype` (any case).

    Reads headers, config and tokenizer, no weights; and the imatrix, if `options` names one. With
    `force`, findings that mean the model would run wrong are left to the caller in
    `Plan.findings`. With `shards` the weights are not in `src` but come from there, one shard after
    the other while they are converted. Raises ConvertError.
    """
    (only,) = plan_all(src, [ftype], options=options, force=force, shards=shards)
    return only


def plan_all(
    src: str | Path,
    ftypes: Iterable[str],
    *,
    options: TypeOptions | None = None,
    force: bool = False,
    shards: ShardStore | None = None,
) -> tuple[Plan, ...]:
    """Decide conversions of the checkpoint directory `src` to several types; see `plan`."""
    from convert.planning import make_plans

    return make_plans(Path(src), ftypes, options or TypeOptions(), force=force, shards=shards)


def sizes(
    src: str | Path, *, options: TypeOptions | None = None, shards: ShardStore | None = None
) -> tuple[TypeSize, ...]:
    """What every ftype would make of the checkpoint directory `src`, from headers alone.

    Types that need an importance matrix are sized as if there were one. Raises ConvertError.
    """
    from convert.planning import list_sizes

    return list_sizes(Path(src), options or TypeOptions(), shards)


def convert(
    plan: Plan,
    out: str | Path,
    *,
    split: Split | None = None,
    resume: bool = False,
    threads: int | None = None,
    ram: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Carry out `plan` into the file `out`, replacing it only when the new file is whole.

    With `resume` the files of a conversion that was killed, interrupted or met a full disk are gone
    on with, to the same bytes; without, they are started over. `threads` defaults to the CPUs at
    hand; `ram` bounds the working buffers, in bytes, 64 MiB a thread unless given, and some 4 MiB
    at least; `progress` is called from this thread after every tile. Raises ConvertError, and what
    `progress` raises.
    """
    (report,) = convert_all(
        [(plan, out)], split=split, resume=resume, threads=threads, ram=ram, progress=progress
    )
    return report


def convert_all(
    planned: Iterable[tuple[Plan, str | Path]],
    *,
    split: Split | None = None,
    resume: bool = False,
    threads: int | None = None,
    ram: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Report, ...]:
    """Carry out plans of one checkpoint, each into its own output, reading the source once.

    Their bytes are those that `convert` would write one by one. See there for the rest.
    """
    from convert.writing.layout import lay_out
    from convert.writing.pipeline import run

    layouts = [(plan, lay_out(plan, Path(out), split)) for plan, out in planned]
    return run(layouts, resume=resume, threads=threads, ram=ram, progress=progress)


def estimate(
    planned: Iterable[tuple[Plan, str | Path]],
    *,
    split: Split | None = None,
    threads: int | None = None,
    ram: int | None = None,
) -> Estimate:
    """What `convert_all` of the same arguments will take. Raises ConvertError."""
    from convert.estimation import make_estimate
    from convert.writing.layout import lay_out

    layouts = [(plan, lay_out(plan, Path(out), split)) for plan, out in planned]
    return make_estimate(layouts, threads=threads, ram=ram)


def leftover(out: str | Path) -> Leftover | None:
    """What an unfinished conversion into `out` has left to resume; None if there is nothing."""
    from convert.writing.output import find_leftover

    return find_leftover(Path(out))


def describe(path: str | Path) -> Description:
    """What the model is: a GGUF (of a split one, the first file), or a checkpoint directory.

    Reads headers, config and tokenizer, no weights. Raises ConvertError.
    """
    from convert.description import describe_model

    return describe_model(Path(path))


def file_type(path: str | Path) -> str:
    """The type a GGUF says it is of; of a split one, `path` is the first file.

    Raises ConvertError if it cannot be read or does not say.
    """
    from convert.verification import read_ftype

    return read_ftype(Path(path))


def verify(
    plan: Plan,
    path: str | Path,
    *,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Compare the GGUF `path`, by whomever it was made, with the checkpoint and type of `plan`.

    Every weight is read back and dequantized; metadata, vocabulary and tensor types are compared.
    Of a split GGUF, `path` is the first file. Raises ConvertError if either side cannot
    be read.
    """
    from convert.verification import check

    return check(plan, Path(path), threads=threads, progress=progress)
