"""One line of `l4 plan`: how a model of one type runs on one machine, and what limits it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from l4cli.amounts import gib, rounded_tokens, tokens
from l4cli.fit.choose import (
    ANYTHING,
    Fit,
    PlacementLimits,
    Shortfall,
    Verdict,
    largest_context,
    place,
)
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec, memory_use
from l4cli.fit.rates import Rates, Sample, rates
from l4cli.fit.shape import ModelShape
from l4cli.speeds.facts import Conditions


@dataclass(frozen=True, slots=True)
class Row:
    """What `l4 plan` says about one type.

    max_ctx: the largest context that fits, in tokens. 0: none fits. None: the size of the KV cache
        is not known.
    limit: one line on what limits the model on this machine, and how much more memory would help.
    """

    name: str
    shape: ModelShape
    fit: Fit
    max_ctx: int | None
    rates: Rates
    limit: str

    def as_json(self, hardware: Hardware) -> dict[str, Any]:
        """Return the row as JSON values, in bytes, tokens and tokens per second."""
        shape, fit = self.shape, self.fit
        whole = memory_use(shape, **asdict(fit.spec)) if shape.knows_cache else None
        cards = zip(hardware.gpus, fit.use.gpus or [None] * len(hardware.gpus), strict=True)
        return {
            "name": self.name,
            "weights": shape.n_bytes,
            "routed_experts": shape.routed_bytes,
            "verdict": fit.verdict,
            "kv": {"global": whole.kv_global, "windows": whole.kv_window} if whole else None,
            "compute": fit.use.compute,
            "gpus": [
                {
                    "name": card.name,
                    "usable": card.usable,
                    "weights": held.weights if held else 0,
                    "kv": held.kv if held else 0,
                    "compute": held.compute if held else 0,
                    "left": card.usable - (held.total if held else 0),
                }
                for card, held in cards
            ],
            "ram": {
                "usable": hardware.ram_usable,
                "weights": fit.use.ram.weights,
                "mapped": fit.use.ram.mapped,
                "kv": fit.use.ram.kv,
                "compute": fit.use.ram.compute,
                "left": hardware.ram_usable - fit.use.ram.total,
            },
            "gpu_layers": fit.placement.gpu_layers,
            "cpu_moe": fit.placement.cpu_moe,
            "tensor_split": list(fit.placement.split),
            "max_ctx": self.max_ctx,
            "tokens_per_second": round(self.rates.first, 2),
            "tokens_per_second_at_full_context": round(self.rates.full, 2),
            "tokens_per_second_are": self.rates.origin,
            "measured": self.rates.origin == "measured",
            "limit": self.limit,
        }


def make_row(
    name: str,
    shape: ModelShape,
    spec: ContextSpec,
    hardware: Hardware,
    limits: PlacementLimits = ANYTHING,
    *,
    conditions: Conditions | None = None,
    samples: Sequence[Sample] = (),
) -> Row:
    """Place the model and return its row.

    limits: fixed parts of the placement.
    conditions: under which speeds of this model hold; `make_row` fills in the placement. None if
        there is no file.
    samples: speeds measured on this machine, of this model and of others.
    """
    fit = place(shape, spec, hardware, limits)
    max_ctx = None
    if shape.knows_cache:
        verdict: Verdict = "from disk" if fit.verdict == "from disk" else "fits"
        max_ctx = largest_context(shape, spec, hardware, limits, verdict=verdict)
        if not max_ctx:
            max_ctx = largest_context(shape, spec, hardware, limits, verdict="from disk")
    placed = fit.placement
    if conditions is not None:
        conditions = conditions.placed(
            [gpu.name for gpu in hardware.gpus],
            placed.gpu_layers,
            placed.cpu_moe,
            n_layers=shape.n_layers,
            repack=placed.repack,
        )
    return Row(
        name=name,
        shape=shape,
        fit=fit,
        max_ctx=max_ctx,
        rates=rates(shape, fit, hardware, conditions, samples),
        limit=_limit(shape, fit, hardware, limits, max_ctx),
    )


def _limit(
    shape: ModelShape, fit: Fit, hardware: Hardware, limits: PlacementLimits, max_ctx: int | None
) -> str:
    if fit.verdict == "too large":
        return _what_lacks(shape, fit, max_ctx)
    if fit.verdict == "from disk":
        return f"slow, from disk: with {gib(fit.missing)} more RAM all of it would fit"
    if max_ctx is None:
        return "the weights fit; the size of its KV cache was never published"
    if max_ctx >= shape.n_ctx_train:
        return f"fits, with all {tokens(shape.n_ctx_train)} tokens it was trained for"
    wanted = min(shape.n_ctx_train, 1 << max_ctx.bit_length())
    beyond = place(shape, replace(fit.spec, n_ctx=wanted), hardware, limits)
    lacking = beyond.shortfalls or (Shortfall("RAM", beyond.missing),)
    more = " and ".join(f"{gib(each.n_bytes)} more {_kind(each.device)}" for each in lacking)
    return f"fits; {more} allows {rounded_tokens(wanted)} tokens"


def _what_lacks(shape: ModelShape, fit: Fit, max_ctx: int | None) -> str:
    lacking = " and ".join(f"{each.device} lacks {gib(each.n_bytes)}" for each in fit.shortfalls)
    if max_ctx:
        return f"too large: {lacking}; {rounded_tokens(max_ctx)} tokens would fit"
    return f"too large: {lacking}"


def _kind(device: str) -> str:
    return "RAM" if device == "RAM" else "GPU memory"
