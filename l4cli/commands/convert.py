"""`l4 convert`: a Hugging Face checkpoint to a quantized GGUF."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l4cli import console
from l4cli.errors import UsageError
from l4cli.locate import locate_checkpoint

if TYPE_CHECKING:
    from convert import Plan, Report, TypeOptions

TYPES_PANEL = "Types"
LIST = "list"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A Hugging Face checkpoint: its directory, or, of what the Hub's cache holds, a "
            "name from models.toml (`l4 models`) or an id as org/name.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The GGUF to write."),
    ] = None,
    type: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="BF16, Q8_0, Q6_K, Q4_K_M, IQ2_XXS, …; `list` shows all, and the size of each.",
        ),
    ] = "Q4_K_M",
    threads: Annotated[
        int | None,
        typer.Option("--threads", "-t", min=1, metavar="N", help="Quantizing threads."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its size; read no weights.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Convert even what llama.cpp would run wrong.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a table.")] = False,
    imatrix: Annotated[
        str | None,
        typer.Option(
            "--imatrix",
            metavar="FILE",
            help="Importance matrix of llama-imatrix (GGUF or .dat); the IQ1 to IQ3_XS need one.",
            rich_help_panel=TYPES_PANEL,
        ),
    ] = None,
    cold_experts: Annotated[
        str | None,
        typer.Option(
            "--cold-experts",
            metavar="QTYPE",
            help="Safer type, such as Q6_K, where the imatrix hardly saw some expert.",
            rich_help_panel=TYPES_PANEL,
        ),
    ] = None,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor-type",
            metavar="PATTERN=QTYPE",
            help="Type of the tensors in whose names the pattern is found; the first one decides.",
            rich_help_panel=TYPES_PANEL,
        ),
    ] = None,
    output_tensor_type: Annotated[
        str | None,
        typer.Option(
            "--output-tensor-type",
            metavar="QTYPE",
            help="Type of output.weight.",
            rich_help_panel=TYPES_PANEL,
        ),
    ] = None,
    token_embedding_type: Annotated[
        str | None,
        typer.Option(
            "--token-embedding-type",
            metavar="QTYPE",
            help="Type of token_embd.weight.",
            rich_help_panel=TYPES_PANEL,
        ),
    ] = None,
    pure: Annotated[
        bool,
        typer.Option(
            "--pure", help="One type for all, without the recipe.", rich_help_panel=TYPES_PANEL
        ),
    ] = False,
) -> None:
    """Convert a checkpoint to GGUF, quantizing on the way.

    One pass, with no intermediate file: read, transform, quantize in threads, write. The output
    appears under its name only when it is whole. Types, and what bears on them, mean what they mean
    to llama-quantize, and give the same bytes.
    """
    import convert as converter

    checkpoint = locate_checkpoint(source)
    options = converter.TypeOptions(
        imatrix=imatrix,
        tensor_types=tuple(_parse_tensor_type(text) for text in tensor_type or ()),
        output_tensor_type=output_tensor_type,
        token_embedding_type=token_embedding_type,
        pure=pure,
        cold_experts=cold_experts,
    )
    if type.lower() == LIST:
        _list_types(checkpoint.path, options, json)
        return
    plan = converter.plan(checkpoint.path, type, options=options, force=force)
    target = out or Path(f"{checkpoint.name}-{plan.ftype}.gguf")
    for finding in plan.findings:
        console.note(f"{finding.level}: {finding.message}")
    if dry_run:
        _show(plan, None, target, json)
        return
    with console.byte_progress("converting", plan.n_bytes) as update:
        report = converter.convert(
            plan, target, threads=threads, progress=lambda p: update(p.bytes_done, p.tensor)
        )
    _show(plan, report, target, json)


def _parse_tensor_type(text: str) -> tuple[str, str]:
    pattern, _, qtype = text.partition("=")
    if not pattern or not qtype:
        raise UsageError(f"--tensor-type {text}: not PATTERN=QTYPE, such as attn_v=q8_0")
    return pattern, qtype


def _list_types(directory: Path, options: TypeOptions, json: bool) -> None:
    """Every type, and what it would make of this checkpoint."""
    import convert as converter

    sizes = converter.sizes(directory, options=options)
    if json:
        console.data_json([asdict(size) for size in sizes])
        return
    rows = []
    for size in sorted(sizes, key=lambda each: each.n_bytes or 0, reverse=True):
        if size.n_bytes is None or size.bits_per_weight is None:
            rows.append([size.ftype, "-", "-", size.refusal or ""])
            continue
        note = "needs --imatrix" if size.lacks_imatrix else ""
        bits = f"{size.bits_per_weight:.2f}"
        rows.append([size.ftype, console.human_size(size.n_bytes), bits, note])
    console.table(["TYPE", "SIZE", "BITS", ""], rows)


def _show(plan: Plan, report: Report | None, target: Path, json: bool) -> None:
    """The plan, or what came of it: on stdout as JSON, else on stderr in a few lines."""
    facts: dict[str, Any] = {
        "source": str(plan.source),
        "out": str(target),
        "architecture": plan.architecture,
        "type": plan.ftype,
        "n_bytes": plan.n_bytes,
        "n_tensors": len(plan.tensors),
        "n_params": plan.n_params,
        "n_params_active": plan.n_params_active,
        "bits_per_weight": round(plan.bits_per_weight, 3),
    }
    if report:
        facts |= {"seconds": round(report.seconds, 3), "peak_rss": report.peak_rss}
    if json:
        tensors = [
            {"name": t.name, "shape": list(t.shape), "type": t.qtype, "n_bytes": t.n_bytes}
            for t in plan.tensors
        ]
        console.data_json({**facts, "tensors": tensors})
        return
    size = console.human_size(plan.n_bytes)
    what = (
        f"{target}: {plan.architecture} {plan.ftype}, {size}, {plan.bits_per_weight:.2f} bits per "
        f"weight, {_count(plan.n_params)} parameters ({_count(plan.n_params_active)} active)"
    )
    if report is None:
        console.table(
            ["TENSOR", "SHAPE", "TYPE", "SIZE"],
            [
                [t.name, "x".join(map(str, t.shape)), t.qtype, console.human_size(t.n_bytes)]
                for t in plan.tensors
            ],
        )
        console.note(f"would write {what}")
        return
    console.note(f"wrote {what}")
    console.note(
        f"in {report.seconds:.1f} s, with {console.human_size(report.peak_rss)} of memory at most"
    )


def _count(n: int) -> str:
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.1f}{unit}"
    return str(n)
