"""Tokens a second of a placement: measured, or estimated and set right by what was measured. Pure.

What memory bandwidth lets expect is off by much the same factor for a model's other placements and
types on the same machine: the nearest that was measured tells it. Other models tell nothing: what
a small one takes besides reading its weights is more than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from l4cli.fit.choose import Fit, PlacementLimits, place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.shape import ModelShape
from l4cli.fit.speed import decode_tps
from l4cli.speeds.facts import Conditions, Measured

Origin = Literal["measured", "calibrated", "estimated"]
Model = tuple[str, int, int, int]  # what all types of a model have in common


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens a second of one sequence: behind nothing, and behind a full context.

    `origin` is how they are known: "calibrated" is an estimate set right by a measurement.
    """

    first: float
    full: float
    origin: Origin = "estimated"


@dataclass(frozen=True, slots=True)
class Sample:
    """A placement of a model that was measured, and what would have been expected of it."""

    model: Model
    conditions: Conditions
    measured: Rates
    expected: Rates


def expected_rates(shape: ModelShape, fit: Fit, hardware: Hardware) -> Rates:
    """What the bandwidth of memory lets expect."""
    depth = fit.spec.n_ctx // fit.spec.n_seq_max
    first, full = (
        decode_tps(shape, fit.spec, fit.placement, hardware, depth=at, missing=fit.missing)
        for at in (0, depth)
    )
    return Rates(first, full)


def sample(
    shape: ModelShape,
    spec: ContextSpec,
    hardware: Hardware,
    conditions: Conditions,
    measured: Measured,
) -> Sample | None:
    """What was measured under `conditions`; None if not of one sequence, or on cards now gone."""
    is_of_one = measured.decode or any(run.n_seq_max == 1 for run in measured.runs)
    first, full = measured.decode_tps(), measured.decode_tps(depth=spec.n_ctx // spec.n_seq_max)
    is_gone = conditions.cards not in ("", ", ".join(gpu.name for gpu in hardware.gpus))
    if not is_of_one or not first or not full or is_gone:
        return None
    limits = PlacementLimits(gpu_layers=conditions.n_gpu_layers, cpu_moe=conditions.n_cpu_moe)
    expected = expected_rates(shape, place(shape, spec, hardware, limits), hardware)
    return Sample(_model(shape), conditions, Rates(first, full, "measured"), expected)


def rates(
    shape: ModelShape,
    fit: Fit,
    hardware: Hardware,
    conditions: Conditions | None = None,
    samples: Sequence[Sample] = (),
) -> Rates:
    """What is known of a placed model: measured under the same `conditions`, or else expected.

    What is expected is as much off as it was for the sample that was expected to be the nearest.
    """
    for each in samples:
        if each.conditions == conditions:
            return each.measured
    expected = expected_rates(shape, fit, hardware)
    alike = [each for each in samples if each.model == _model(shape)]
    if not alike:
        return expected
    nearest = min(alike, key=lambda each: abs(math.log(each.expected.first / expected.first)))
    return Rates(
        expected.first * nearest.measured.first / nearest.expected.first,
        expected.full * nearest.measured.full / nearest.expected.full,
        "calibrated",
    )


def _model(shape: ModelShape) -> Model:
    return shape.architecture, shape.n_layers, shape.n_embd, shape.n_experts
