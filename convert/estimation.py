"""Estimates the time, memory and disk that a conversion takes, before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from convert.checkpoint.shards import in_flight_bytes
from convert.kernels.quantize import fits_lanes, has_lanes, is_much
from convert.types import Estimate, Plan, PlannedTensor
from convert.writing.journal import stored_tensors
from convert.writing.layout import Layout
from convert.writing.resources import buffers, held, n_cpus

# Millions of weights that ggml's kernels quantize per second, on one thread of an EPYC of 2024.
# Only the types that need an importance matrix were measured with one.
_RATES = {
    "F32": 8900, "F16": 590, "BF16": 2700, "Q8_0": 290, "Q6_K": 35, "Q5_K": 18, "Q5_1": 580,
    "Q5_0": 540, "Q4_K": 15, "Q4_1": 1000, "Q4_0": 930, "Q3_K": 83, "Q2_K": 18, "IQ4_NL": 5.7,
    "IQ4_XS": 5.5, "IQ3_S": 2.9, "IQ3_XXS": 2.0, "IQ2_S": 4.2, "IQ2_XS": 1.2, "IQ2_XXS": 2.4,
    "IQ1_M": 6.8, "IQ1_S": 5.9, "TQ1_0": 330, "TQ2_0": 320, "MXFP4": 210,
}  # fmt: skip
_SLOWEST = 1.0  # for types that are not in the table
# The same for kernels/kquants.py, measured in whole conversions.
_RATES_IN_LANES = {"Q4_K": 51, "Q5_K": 53, "Q6_K": 83}
# Millions of weights per second and thread for reading, conversion to float32, and writing.
_RATE_BESIDE = 300


def make_estimate(
    planned: Sequence[tuple[Plan, Layout]], *, threads: int | None, ram: int | None
) -> Estimate:
    """See `convert.estimate`."""
    threads = threads or n_cpus()
    plans = [plan for plan, _ in planned]
    in_lanes = is_much(plans) and has_lanes()
    seconds = sum(
        tensor.output.n_params / 1e6 / _rate(tensor, in_lanes)
        for plan in plans
        for tensor in plan.tensors
    )
    seconds += plans[0].n_params / 1e6 / _RATE_BESIDE
    return Estimate(
        n_bytes=tuple(layout.n_bytes for _, layout in planned),
        seconds=seconds / threads,
        ram=held() + buffers(plans, threads, ram),
        disk=sum(layout.n_bytes for _, layout in planned) + _shards_here(plans[0]),
        disk_free=_free(planned[0][1].path),
    )


def _rate(tensor: PlannedTensor, in_lanes: bool) -> float:
    rates = _RATES_IN_LANES if in_lanes and fits_lanes(tensor) else _RATES
    return rates.get(tensor.qtype, _SLOWEST)


def _shards_here(plan: Plan) -> int:
    """The most bytes that fetched shards take on disk at once; 0 if the plan fetches none."""
    if plan.shards is None:
        return 0
    return in_flight_bytes(plan.shards, (stored.path.name for stored in stored_tensors(plan)))


def _free(path: Path) -> int:
    """The free bytes on the disk of `path`; 0 if its directory does not exist."""
    return shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
