"""What `l4 convert` and `l4 quantize` show: plans and estimates, reports, verifications.

JSON goes to stdout: one object for one output, a list for several. Plans and verifications also go
to stdout, since the user asked for them; the report of a conversion goes to stderr.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l4cli import console
from l4cli.amounts import counted, human_size, roughly

if TYPE_CHECKING:
    from convert import Estimate, Plan, Report, TensorCheck, TypeSize, Verification

_MAX_DIFFERENCES = 8


def plans(planned: Sequence[tuple[Plan, Path]], estimate: Estimate, *, json: bool) -> None:
    """Show what would be written, and the time, memory and disk that it would take."""
    if json:
        needs = {
            "seconds": round(estimate.seconds, 1),
            "ram": estimate.ram,
            "disk": estimate.disk,
            "disk_free": estimate.disk_free,
        }
        sizes = zip(planned, estimate.n_bytes, strict=True)
        _json([facts(plan, out, n) | {"estimate": needs} for (plan, out), n in sizes])
        return
    for (plan, out), n_bytes in zip(planned, estimate.n_bytes, strict=True):
        console.table(
            ["TENSOR", "SHAPE", "TYPE", "SIZE"],
            [
                [t.name, "x".join(map(str, t.shape)), t.qtype, human_size(t.n_bytes)]
                for t in plan.tensors
            ],
        )
        _types_table(plan)
        console.note(f"would write {_summary(plan, out, n_bytes)}")
    console.note(
        f"would take {roughly(estimate.seconds)} (from rates measured on another machine), "
        f"{human_size(estimate.ram)} of memory, {human_size(estimate.disk)} of "
        f"disk ({human_size(estimate.disk_free)} free)"
    )
    if estimate.disk > estimate.disk_free:
        console.note("warning: the disk is too small; write to another disk with -o")


def sizes(found: Sequence[TypeSize], *, json: bool) -> None:
    """Show every type with the size that the model would have in it, the largest first."""
    if json:
        console.data_json([asdict(size) for size in found])
        return
    rows = []
    for size in sorted(found, key=lambda each: each.n_bytes or 0, reverse=True):
        if size.n_bytes is None or size.bits_per_weight is None:
            rows.append([size.ftype, "-", "-", size.refusal or ""])
            continue
        note = "needs --imatrix" if size.lacks_imatrix else ""
        bits = f"{size.bits_per_weight:.2f}"
        rows.append([size.ftype, human_size(size.n_bytes), bits, note])
    console.table(["TYPE", "SIZE", "BITS", ""], rows)


def reports(plans: Sequence[Plan], reports: Sequence[Report], *, json: bool) -> None:
    """Show what was written."""
    pairs = list(zip(plans, reports, strict=True))
    if json:
        _json(
            [
                facts(plan, report.path, report.n_bytes)
                | {
                    "files": [str(file) for file in report.files],
                    "n_resumed": report.n_resumed,
                    "seconds": round(report.seconds, 3),
                    "peak_rss": report.peak_rss,
                }
                for plan, report in pairs
            ]
        )
        return
    for plan, report in pairs:
        if report.was_whole:
            console.note(f"{report.path} is there and whole: there is nothing left to do")
            continue
        _types_table(plan)
        console.note(f"wrote {_summary(plan, report.path, report.n_bytes)}")
        if len(report.files) > 1:
            console.note(f"in {len(report.files)} files, the last {report.files[-1]}")
        if report.n_resumed:
            console.note(f"{human_size(report.n_resumed)} of it had been written before")
    written = [report for report in reports if not report.was_whole]
    if written:
        console.note(
            f"in {written[0].seconds:.1f} s, with {human_size(written[0].peak_rss)} of "
            "memory at most"
        )


def verifications(found: Sequence[tuple[Path, Verification]], *, json: bool) -> None:
    """Say whether each output is as near to its source as its types allow; show what is not."""
    if json:
        _json(
            [
                {
                    "out": str(path),
                    "is_fine": result.is_fine,
                    "differences": list(result.differences),
                    "tensors": [_check_facts(tensor) for tensor in _worst_first(result.tensors)],
                }
                for path, result in found
            ]
        )
        return
    for path, result in found:
        bad = [tensor for tensor in _worst_first(result.tensors) if not tensor.is_fine]
        if bad:
            console.table(
                ["TENSOR", "TYPE", "WORST MATRIX", "ERROR", "BOUND"],
                [
                    [
                        tensor.name,
                        tensor.qtype,
                        str(tensor.matrix),
                        f"{tensor.error:.5f}",
                        f"{tensor.bound:.5f}",
                    ]
                    for tensor in bad
                ],
            )
        for difference in result.differences[:_MAX_DIFFERENCES]:
            console.note(f"{path}: {difference}")
        if (n_more := len(result.differences) - _MAX_DIFFERENCES) > 0:
            console.note(f"{path}: and {n_more} more; --json lists all")
        if bad or result.differences:
            console.note(f"{path}: failed checks: {len(bad) + len(result.differences)}")
        else:
            console.note(f"{path}: verified{_nearest_to_its_bound(result.tensors)}")


def facts(plan: Plan, out: Path, n_bytes: int) -> dict[str, Any]:
    """The facts about one output, for JSON."""
    return {
        "source": str(plan.source),
        "out": str(out),
        "architecture": plan.architecture,
        "type": plan.ftype,
        "n_bytes": n_bytes,
        "n_tensors": len(plan.tensors),
        "n_params": plan.n_params,
        "n_params_active": plan.n_params_active,
        "bits_per_weight": round(plan.bits_per_weight, 3),
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "type": t.qtype, "n_bytes": t.n_bytes}
            for t in plan.tensors
        ],
    }


def _worst_first(tensors: Sequence[TensorCheck]) -> list[TensorCheck]:
    """The tensors, sorted by type and then by error.

    Types are sorted by the largest share of its bound that the error of one of their tensors takes.
    """
    shares: dict[str, float] = defaultdict(float)
    for tensor in tensors:
        share = tensor.error / tensor.bound if tensor.bound else float(tensor.error > 0)
        shares[tensor.qtype] = max(shares[tensor.qtype], share)
    return sorted(tensors, key=lambda t: (-shares[t.qtype], t.qtype, -t.error))


def _nearest_to_its_bound(tensors: Sequence[TensorCheck]) -> str:
    """How many tensors were compared, and which came nearest to the error that it may have."""
    rounded = [tensor for tensor in tensors if tensor.bound]
    if not rounded:
        return f": {counted(len(tensors), 'tensor')}, no weight differs"
    worst = max(rounded, key=lambda tensor: tensor.error / tensor.bound)
    return (
        f": {counted(len(tensors), 'tensor')}; the one nearest to its limit, {worst.name}, differs "
        f"by {worst.error:.1%}, and {worst.qtype} may by {worst.bound:.1%}"
    )


def _check_facts(tensor: TensorCheck) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "type": tensor.qtype,
        "error": tensor.error,
        "part": tensor.matrix,
        "bound": tensor.bound,
        "is_fine": tensor.is_fine,
    }


def _types_table(plan: Plan) -> None:
    """Write a table of the types in the output to stderr."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for tensor in plan.tensors:
        for index, n in enumerate((1, tensor.output.n_params, tensor.n_bytes)):
            sums[tensor.qtype][index] += n
    rows = [
        [qtype, str(n), _count(params), human_size(n_bytes), f"{8 * n_bytes / params:.2f}"]
        for qtype, (n, params, n_bytes) in sorted(sums.items(), key=lambda item: -item[1][2])
    ]
    console.table(["TYPE", "TENSORS", "WEIGHTS", "SIZE", "BITS"], rows, to_stderr=True)


def _summary(plan: Plan, out: Path, n_bytes: int) -> str:
    return (
        f"{out}: {plan.architecture} {plan.ftype}, {human_size(n_bytes)}, "
        f"{plan.bits_per_weight:.2f} bits per weight, {_count(plan.n_params)} parameters "
        f"({_count(plan.n_params_active)} active)"
    )


def _json(values: list[dict[str, Any]]) -> None:
    console.data_json(values[0] if len(values) == 1 else values)


def _count(n: int) -> str:
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.1f}{unit}"
    return str(n)
