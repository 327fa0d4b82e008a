"""Decides whether several models fit on a machine together, and what each may take there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from l4cli.engine.sizing import KV_PART
from l4cli.fit.choose import Fit, PlacementLimits, Shortfall, place
from l4cli.fit.hardware import Hardware
from l4cli.fit.memory import ContextSpec, most_per_token
from l4cli.fit.placement import Use
from l4cli.fit.shape import ModelShape

_CONTEXT_PART = 2  # contexts take half of what is left; the rest is for buffers and other programs


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that is to be loaded, and the smallest context that it should have."""

    shape: ModelShape
    spec: ContextSpec


@dataclass(frozen=True, slots=True)
class Room:
    """What one of several models may take.

    hardware: the machine, without what the others take at least.
    n_cells: the most tokens of its KV cache.
    kv_bytes: the most bytes of its KV cache.
    repack: whether weights may be copied, as `PlacementLimits` has it.
    """

    hardware: Hardware
    n_cells: int
    kv_bytes: int
    repack: bool | None


@dataclass(frozen=True, slots=True)
class Together:
    """Several models, placed one after the other.

    fits: where each one lies.
    shortfalls: the devices that lack memory for all of them; none if they fit.
    repack: the value of `PlacementLimits.repack` with which they were placed.
    """

    fits: tuple[Fit, ...]
    shortfalls: tuple[Shortfall, ...]
    repack: bool | None = None


def fit_together(models: Sequence[Wanted], hardware: Hardware, limits: PlacementLimits) -> Together:
    """Place models one after the other, each in what those before it leave.

    They fit if nothing has to be read from disk again and again: the requests of several models
    come in turns, and each turn would read weights that another one's have driven out of memory.
    """
    copying = _placed(models, hardware, limits, None)
    if not copying.shortfalls or not hardware.repacks:
        return copying
    return _placed(models, hardware, limits, False)


def rooms(models: Sequence[Wanted], together: Together, hardware: Hardware) -> list[Room]:
    """Return what each of these models may take.

    What is left beside all of them is shared equally among their contexts. If they do not fit, of
    each other model only what cannot be read from disk again is set aside.
    """
    fit_all = not together.shortfalls
    return [
        Room(
            _beside(index, together, hardware, evictable=not fit_all),
            cells := _cells(model, together, hardware, fit),
            cells * most_per_token(model.shape.cache, fit.spec.kv_type),
            together.repack,
        )
        for index, (model, fit) in enumerate(zip(models, together.fits, strict=True))
    ]


def which_fit(
    models: Sequence[Wanted], hardware: Hardware, limits: PlacementLimits
) -> list[Wanted]:
    """Return models that fit together: each that fits beside those before it, in this order."""
    found: list[Wanted] = []
    for model in models:
        if not fit_together([*found, model], hardware, limits).shortfalls:
            found.append(model)
    return found


def _placed(
    models: Sequence[Wanted], hardware: Hardware, limits: PlacementLimits, repack: bool | None
) -> Together:
    limits = replace(limits, repack=repack)
    fits, left, lacking = list[Fit](), hardware, dict[str, int]()
    for model in models:
        fit = place(model.shape, model.spec, left, limits)
        for each in _lacking(fit, left):
            lacking[each.device] = lacking.get(each.device, 0) + each.n_bytes
        fits.append(fit)
        left = _without(left, fit.use)
    shortfalls = tuple(Shortfall(device, n_bytes) for device, n_bytes in lacking.items())
    return Together(tuple(fits), shortfalls, repack)


def _lacking(fit: Fit, hardware: Hardware) -> Iterator[Shortfall]:
    for gpu, held in zip_longest(hardware.gpus, fit.use.gpus):
        if gpu and held and held.total > gpu.usable:
            yield Shortfall(gpu.name, held.total - gpu.usable)
    if fit.use.ram.total > hardware.ram_usable:
        yield Shortfall("RAM", fit.use.ram.total - hardware.ram_usable)


def _beside(index: int, together: Together, hardware: Hardware, *, evictable: bool) -> Hardware:
    """Return the machine without the models beside this one.

    evictable: leave out of account the weights that can be read from disk again.
    """
    for other, fit in enumerate(together.fits):
        if other != index:
            hardware = _without(hardware, fit.use, evictable=evictable)
    return hardware


def _without(hardware: Hardware, use: Use, *, evictable: bool = False) -> Hardware:
    """Return the machine with so much less memory free."""
    gpus = tuple(
        replace(gpu, free=gpu.free - (held.total if held else 0))
        for gpu, held in zip_longest(hardware.gpus, use.gpus)
    )
    ram = use.ram.total - (use.ram.mapped if evictable else 0)
    return replace(hardware, ram_free=hardware.ram_free - ram, gpus=gpus)


def _cells(model: Wanted, together: Together, hardware: Hardware, fit: Fit) -> int:
    """Return the most tokens that a model's KV cache may hold beside the others'."""
    per_token = most_per_token(model.shape.cache, fit.spec.kv_type)
    left = _beside(-1, together, hardware, evictable=False)
    shares = len(together.fits) * _CONTEXT_PART
    more = [left.ram_usable / shares / (fit.use.ram.kv or 1)] if fit.use.ram.kv else []
    more += [
        gpu.usable / shares / held.kv
        for gpu, held in zip(left.gpus, fit.use.gpus, strict=False)
        if held.kv
    ]
    # On each device the cache grows in proportion; the fullest one ends that.
    grown = fit.use.kv * (1 + min(more, default=0.0))
    most = hardware.ram_total / KV_PART / len(together.fits)
    return max(model.spec.n_ctx, int(min(grown, most) / per_token))
