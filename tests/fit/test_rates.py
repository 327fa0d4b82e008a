"""Tokens per second of `l4 plan`: measured with the same placement, or corrected by another's."""

from __future__ import annotations

import pytest

from l4cli.fit.choose import place
from l4cli.fit.described import described_shape
from l4cli.fit.hardware import GIB, Gpu, Hardware
from l4cli.fit.memory import ContextSpec
from l4cli.fit.plan import Row, make_row
from l4cli.fit.rates import Sample, expected_rates, sample
from l4cli.models.registry import load_registry
from l4cli.speeds import Conditions, DecodeRate, Measured, RunSpeeds

REGISTRY = load_registry()
SCOUT = described_shape(REGISTRY.models["scout"], "Q4_K_M", REGISTRY)
SPEC = ContextSpec(16_384)
LOADED = Conditions("scout", n_threads=8)
CARD = ["GPU 0"]
MEASURED = Measured(decode=(DecodeRate(1, 0, 30.0), DecodeRate(1, 16_384, 25.0)))


def machine(*cards: int, ram: int = 128) -> Hardware:
    """A machine with graphics cards and RAM of these sizes in GiB."""
    gpus = tuple(Gpu(f"GPU {n}", size * GIB, size * GIB, 1e12) for n, size in enumerate(cards))
    return Hardware(ram * GIB, ram * GIB, 80e9, gpus)


def row(hardware: Hardware, samples: list[Sample], conditions: Conditions | None = LOADED) -> Row:
    return make_row("scout", SCOUT, SPEC, hardware, conditions=conditions, samples=samples)


def measured(conditions: Conditions, hardware: Hardware) -> Sample:
    found = sample(SCOUT, SPEC, hardware, conditions, MEASURED)
    assert found is not None
    return found


@pytest.mark.parametrize("hardware", [machine(), machine(24), machine(96), machine(8, ram=96)])
def test_what_was_measured_with_the_same_placement_is_the_rate(hardware: Hardware) -> None:
    placed = place(SCOUT, SPEC, hardware).placement
    cards = [gpu.name for gpu in hardware.gpus]
    told = LOADED.placed(
        cards, placed.gpu_layers, placed.cpu_moe, n_layers=48, repack=placed.repack
    )
    rates = row(hardware, [measured(told, hardware)]).rates
    assert (rates.first, rates.full, rates.origin) == (30.0, 25.0, "measured")


def test_a_placement_is_the_same_however_it_was_told() -> None:
    def placed(*told: int) -> Conditions:
        return LOADED.placed(CARD, *told, n_layers=48)

    assert placed(-1, 0) == placed(49, 0) == placed(999, 0) != placed(48, 0)
    assert placed(-1, 512) == placed(-1, 48)
    assert placed(0, 48) == LOADED.placed((), -1, 48, n_layers=48) == LOADED  # all is in RAM
    assert LOADED.placed(["another"], -1, 0, n_layers=48) != placed(-1, 0)


def test_another_placement_is_set_right_by_the_nearest_that_was_measured() -> None:
    hardware = machine(24)
    fit = place(SCOUT, SPEC, hardware)
    expected = expected_rates(SCOUT, fit, hardware)
    few = measured(LOADED.placed(CARD, -1, fit.placement.cpu_moe + 1, n_layers=48), hardware)
    none = measured(LOADED.placed(CARD, 0, 0, n_layers=48), hardware)
    rates = row(hardware, [none, few]).rates
    assert rates.origin == "calibrated"
    assert rates.first == pytest.approx(expected.first * 30.0 / few.expected.first)
    assert rates.full == pytest.approx(expected.full * 25.0 / few.expected.full)
    # The estimate for a type without a file is corrected, too.
    assert row(hardware, [none, few], conditions=None).rates == rates
    assert row(hardware, []).rates == expected
    maverick = described_shape(REGISTRY.models["maverick"], "Q4_K_M", REGISTRY)
    other = make_row("maverick", maverick, SPEC, hardware, samples=[none, few])
    assert other.rates.origin == "estimated"
    assert row(hardware, []).as_json(hardware)["tokens_per_second_are"] == "estimated"


def test_what_cannot_be_compared_is_no_sample() -> None:
    on_card = LOADED.placed(["another"], -1, 0, n_layers=48)
    for hardware in (machine(), machine(24)):
        assert sample(SCOUT, SPEC, hardware, on_card, MEASURED) is None  # the card is gone
    assert sample(SCOUT, SPEC, machine(), LOADED, Measured()) is None
    of_many = Measured(runs=(RunSpeeds(16, 500.0, 90.0),))
    assert sample(SCOUT, SPEC, machine(), LOADED, of_many) is None  # the rate of 16 together
    of_one = Measured(runs=(RunSpeeds(16, 500.0, 90.0), RunSpeeds(1, 500.0, 30.0)))
    found = sample(SCOUT, SPEC, machine(), LOADED, of_one)
    assert found is not None
    assert found.measured.first == 30.0
