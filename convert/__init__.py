"""Converts Hugging Face checkpoints to quantized GGUF in one pass, and GGUF files to other types.

It needs neither torch nor llama.cpp's tools.

    plan = convert.plan("Llama-4-Scout-17B-16E-Instruct", "Q4_K_M")   # headers only
    print(plan.n_bytes, plan.bits_per_weight)
    convert.convert(plan, "scout.gguf")

    options = convert.TypeOptions(imatrix="scout.imatrix.gguf", cold_experts="Q6_K")
    plan = convert.plan("Llama-4-Scout-17B-16E-Instruct", "IQ2_XXS", options=options)

    (plan,) = convert.plan_quantize("scout-F16.gguf", ["Q4_K_M"])

Importing this package loads neither numpy nor any other library; its functions load them when
called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from convert.checkpoint.shards import ShardStore
from convert.errors import ConvertError, DiskError
from convert.gguf.ftypes import FTYPES, find_ftype
from convert.types import (
    Estimate,
    Finding,
    Leftover,
    Oddity,
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
    "Oddity",
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
    "find_oddities",
    "leftover",
    "plan",
    "plan_all",
    "plan_quantize",
    "quantize_sizes",
    "refuse_outputs",
    "sizes",
    "verify",
    "with_room_for_figures",
    "write_figures",
]


def plan(
    src: str | Path,
    ftype: str,
    *,
    options: TypeOptions | None = None,
    force: bool = False,
    shards: ShardStore | None = None,
) -> Plan:
    """Decide the conversion of the checkpoint directory `src` to the type `ftype` (any case).

    Reads headers, config and tokenizer, and the imatrix if `options` names one; no weights.

    options: which types the tensors get; None: llama.cpp's own choice.
    force: do not raise on findings of level "error", which mean that the model would give wrong
        results. They are then only in `Plan.findings`.
    shards: where the weights come from if they are not in `src`; converting fetches them one after
        the other.

    Raises ConvertError.
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
    """Decide the conversions of the checkpoint directory `src` to several types; see `plan`."""
    from convert.checkpoint_survey import take_survey
    from convert.planning import make_plans

    wanted = [find_ftype(name) for name in ftypes]
    survey = take_survey(Path(src), shards, force=force)
    return make_plans(survey, wanted, options or TypeOptions(), shards)


def plan_quantize(
    path: str | Path,
    ftypes: Iterable[str],
    *,
    options: TypeOptions | None = None,
    requantize: bool = False,
    force: bool = False,
) -> tuple[Plan, ...]:
    """Decide how to quantize the GGUF `path` to several types; `convert` carries the plans out.

    path: the GGUF, the first file if it is split; of any architecture.
    requantize: quantize again what is quantized to less than 8 bits. False: raise ConvertError.

    The other arguments are those of `plan`. Raises ConvertError, also if there is nothing to do.
    """
    from convert.quantizing import quantize_plans

    wanted = [find_ftype(name) for name in ftypes]
    return quantize_plans(
        Path(path), wanted, options or TypeOptions(), requantize=requantize, force=force
    )


def sizes(
    src: str | Path, *, options: TypeOptions | None = None, shards: ShardStore | None = None
) -> tuple[TypeSize, ...]:
    """The size of the file that each ftype would make of the checkpoint directory `src`.

    Reads headers, no weights. A type that needs an importance matrix is sized as if there were one.
    options, shards: see `plan`. Raises ConvertError.
    """
    from convert.checkpoint_survey import take_survey
    from convert.planning import list_sizes

    return list_sizes(take_survey(Path(src), shards, force=True), options or TypeOptions())


def quantize_sizes(path: str | Path, *, options: TypeOptions | None = None) -> tuple[TypeSize, ...]:
    """The size of the file that each ftype would make of the GGUF `path`; see `sizes`."""
    from convert.gguf_survey import survey_gguf
    from convert.planning import list_sizes

    return list_sizes(survey_gguf(Path(path), force=True), options or TypeOptions())


def convert(
    plan: Plan,
    out: str | Path,
    *,
    split: Split | None = None,
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    ram: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Carry out `plan` and write the file `out`, which gets its name only at the end.

    split: how to cut the output into several files; None: one file.
    resume: continue a conversion that was killed, interrupted or met a full disk; the result has
        the same bytes. An output that is whole is left as it is. False: start over.
    overwrite: replace a file of that name. False: refuse it, unless it has the bytes that this
        conversion would give it.
    threads: None: one per CPU that this process may use.
    ram: the most bytes that the working buffers may take; None: 64 MiB a thread. They take some
        4 MiB a thread at least.
    progress: called in this thread after every tile.

    Raises ConvertError, and whatever `progress` raises.
    """
    (report,) = convert_all(
        [(plan, out)],
        split=split,
        resume=resume,
        overwrite=overwrite,
        threads=threads,
        ram=ram,
        progress=progress,
    )
    return report


def convert_all(
    planned: Iterable[tuple[Plan, str | Path]],
    *,
    split: Split | None = None,
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    ram: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Report, ...]:
    """Carry out several plans of one checkpoint, each into its own output; read the source once.

    The outputs have the same bytes as if `convert` wrote them one by one. See `convert` for the
    arguments.
    """
    from convert.writing.layout import lay_out
    from convert.writing.pipeline import run

    layouts = [(plan, lay_out(plan, Path(out), split)) for plan, out in planned]
    return run(
        layouts, resume=resume, overwrite=overwrite, threads=threads, ram=ram, progress=progress
    )


def refuse_outputs(
    planned: Iterable[tuple[Plan, str | Path]],
    *,
    split: Split | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Raise the ConvertError that `convert_all` would raise for the outputs; touch nothing."""
    from convert.writing import refusals
    from convert.writing.layout import lay_out

    layouts = [(plan, lay_out(plan, Path(out), split)) for plan, out in planned]
    refusals.refuse_outputs(layouts, resume=resume, overwrite=overwrite)


def estimate(
    planned: Iterable[tuple[Plan, str | Path]],
    *,
    split: Split | None = None,
    threads: int | None = None,
    ram: int | None = None,
) -> Estimate:
    """The time, memory and disk that `convert_all` with these arguments takes.

    Raises ConvertError.
    """
    from convert.estimation import make_estimate
    from convert.writing.layout import lay_out

    layouts = [(plan, lay_out(plan, Path(out), split)) for plan, out in planned]
    return make_estimate(layouts, threads=threads, ram=ram)


def leftover(out: str | Path) -> Leftover | None:
    """What an unfinished conversion into `out` left to resume; None if there is nothing."""
    from convert.writing.output import find_leftover

    return find_leftover(Path(out))


def describe(path: str | Path) -> Description:
    """Describe the model `path`: a GGUF (the first file of a split one) or a checkpoint directory.

    Reads headers, config and tokenizer, no weights. Raises ConvertError.
    """
    from convert.description import describe_model

    return describe_model(Path(path))


def file_type(path: str | Path) -> str:
    """The ftype that the GGUF `path` states; `path` is the first file of a split GGUF.

    Raises ConvertError if it cannot be read or states none.
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
    """Compare the GGUF `path`, made by any converter, with the checkpoint and type of `plan`.

    Every weight is read back, dequantized and compared, and so are metadata, vocabulary and tensor
    types. `path` is the first file of a split GGUF.

    threads: None: one per CPU that this process may use.
    progress: called in this thread after every tile.

    Raises ConvertError if the GGUF or the checkpoint cannot be read.
    """
    from convert.verification import check

    return check(plan, Path(path), threads=threads, progress=progress)


def find_oddities(
    path: str | Path,
    base: str | Path,
    *,
    most_weights: int = 1 << 28,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Oddity, ...]:
    """Compare the GGUF `path` with `base`, another GGUF of the same model, whatever their types.

    Finds metadata that decide how the model runs and differ, and tensors that are further apart
    than their types explain: zero, scaled, exchanged between experts or layers, damaged.

    most_weights: how many weights of each model are read, in rows evenly spaced over all matrices.
        A model with fewer is compared as a whole; of a larger one, single rows can be missed.
    threads: None: one per CPU that this process may use.
    progress: called in this thread after every matrix, with counts of matrices in place of bytes.

    Raises ConvertError if one of them cannot be read.
    """
    from convert.comparison import find

    return find(
        Path(path), Path(base), most_weights=most_weights, threads=threads, progress=progress
    )


def with_room_for_figures(plan: Plan) -> Plan:
    """`plan` with metadata that keep room for figures of an evaluation; see `write_figures`."""
    from dataclasses import replace

    from convert.gguf.figures import room
    from convert.writing.layout import encode_tensors

    fields = {**plan.fields, **room()}
    more = len(encode_tensors(fields, plan.tensors)) - len(
        encode_tensors(plan.fields, plan.tensors)
    )
    return replace(plan, fields=fields, n_bytes=plan.n_bytes + more)


def write_figures(path: str | Path, figures: Mapping[str, object]) -> None:
    """Write figures of an evaluation into the metadata of a GGUF, whose plan kept room for them.

    path: the GGUF, the first file if it is split.
    figures: ppl, ppl_error, base_ppl, kld, kld_error and same_top (floats, 0 to 1 for the last),
        against, text and date (texts of at most 64 bytes), n_ctx and tokens (tokens of a chunk, and
        tokens scored). Each may be left out.

    Raises ConvertError.
    """
    from convert.gguf import figures as room

    room.write_figures(Path(path), figures)
