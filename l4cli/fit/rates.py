"""Tokens per second of a placement: measured, or estimated and corrected by a measurement. Pure.

`speed.py` estimates speeds from memory bandwidth. On one machine the estimate is off by much the
same factor for all placements and types of a model, so the nearest measured one gives this factor.
Other models cannot: a small model spends more time on other work than on reading its weights.
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
Model = tuple[str, int, int, int]  # what is the same for all types of a model, see `_model`


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of one sequence while it decodes.

    first: with an empty context. full: with a full context.
    origin: "measured", "estimated", or "calibrated": an estimate corrected by a measurement.
    """

    first: float
    full: float
    origin: Origin = "estimated"


@dataclass(frozen=True, slots=True)
class Sample:
    """The measured rates of one placement of a model, and the rates estimated for it."""

    model: Model
    conditions: Conditions
    measured: Rates
    expected: Rates


def expected_rates(shape: ModelShape, fit: Fit, hardware: Hardware) -> Rates:
    """Return the rates estimated from memory bandwidth."""
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
    """Return what was measured under `conditions` as a Sample.

    None if no single sequence was measured, or if the graphics cards are not the same any more.
    """
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
    """Return a placed model's rates: measured under the same `conditions`, or else estimated.

    An estimate is corrected by the factor by which the estimate for the nearest sample was off: the
    sample of the same model with the closest estimated rate.
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
