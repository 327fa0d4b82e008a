"""Several models on one machine: whether they fit beside each other, and what each may take."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import PUBLISHED_SHAPES, make_config
from commands_here import run_here
from hollow import write_hollow

from l4cli.errors import ModelLoadError
from l4cli.fit.described import described_shape
from l4cli.fit.hardware import GIB, Gpu, Hardware
from l4cli.fit.memory import ContextSpec, most_per_token
from l4cli.fit.together import Wanted, fit_together, rooms
from l4cli.loading.choose import choose
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.loading.together import planned
from l4cli.models.locate import Located
from l4cli.models.registry import load_registry

SERVED = LoadOptions(ctx="auto", elastic=True, interactive=True, store=True)
AUTO = SERVED.but(gpu_layers="auto", cpu_moe="auto")


def machine(*cards: int, ram: float) -> Hardware:
    """A machine with graphics cards and RAM of these sizes in GiB."""
    gpus = tuple(Gpu(f"GPU {i}", n * GIB, n * GIB, 1e12) for i, n in enumerate(cards))
    repacks = frozenset() if cards else frozenset({"Q4_K"})
    size = round(ram * GIB)
    return Hardware(size, size, 100e9, gpus, repacks)


def wanted(*models: str, n_ctx: int = 16_384) -> list[Wanted]:
    registry = load_registry()
    return [
        Wanted(described_shape(registry.models[model], "Q4_K_M", registry), ContextSpec(n_ctx))
        for model in models
    ]


@pytest.fixture
def files(tmp_path: Path) -> list[ModelFile]:
    """Two files of 61 GiB each, without weights."""
    config = make_config("scout", **PUBLISHED_SHAPES)
    return [
        ModelFile(Located(write_hollow(tmp_path / f"{name}.gguf", config, "Q4_K_M"), name))
        for name in ("big", "other")
    ]


def test_what_fits_alone_need_not_fit_beside_another() -> None:
    pair = wanted("qwen3-1.7b", "qwen3-1.7b")
    (alone,) = fit_together(pair[:1], machine(ram=5.5), SERVED.placement).fits
    assert alone.verdict == "fits"
    assert not fit_together(pair, machine(ram=8.5), SERVED.placement).shortfalls
    (lack,) = fit_together(pair, machine(ram=5.5), SERVED.placement).shortfalls
    assert lack.device == "RAM"
    needed = 2 * alone.use.ram.total
    assert needed - 4.5 * GIB == pytest.approx(lack.n_bytes, rel=0.3)


def test_copies_of_weights_are_given_up_before_a_model_is() -> None:
    pair = wanted("qwen3-1.7b", "qwen3-1.7b")
    hardware = machine(ram=16)
    assert fit_together(pair, hardware, SERVED.placement).repack is None
    for ram in range(80, 20, -1):
        together = fit_together(pair, machine(ram=ram / 8), SERVED.placement)
        if together.shortfalls:
            break
        used = sum(fit.use.ram.total for fit in together.fits)
        assert used <= machine(ram=ram / 8).ram_usable
    assert ram / 8 < 8


@pytest.mark.parametrize("hardware", [machine(ram=12), machine(24, ram=64), machine(6, 4, ram=16)])
def test_each_is_loaded_as_planned_and_contexts_share_what_is_left(hardware: Hardware) -> None:
    models = wanted("qwen3-1.7b", "qwen3-0.6b", "smollm2", n_ctx=8192)
    together = fit_together(models, hardware, AUTO.placement)
    assert not together.shortfalls
    used = [0] * (1 + len(hardware.gpus))
    for model, room in zip(models, rooms(models, together, hardware), strict=True):
        options = AUTO.but(default_ctx=8192, room=room)
        decision = choose(model.shape, options, room.hardware)
        assert decision.prefill_on is None
        assert room.n_cells > 8192
        per_token = most_per_token(model.shape.cache, "f16")
        assert room.kv_bytes == room.n_cells * per_token
        assert room.kv_bytes <= hardware.ram_total / 4 / len(models)
        grown = replace(model, spec=ContextSpec(room.n_cells))
        (fit,) = fit_together([grown], room.hardware, options.placement).fits
        assert fit.verdict == "fits"
        for index, held in enumerate((fit.use.ram, *fit.use.gpus)):
            used[index] += held.total
    assert used[0] <= hardware.ram_usable
    for held, gpu in zip(used[1:], hardware.gpus, strict=True):
        assert held <= gpu.usable


def test_what_does_not_fit_is_refused_with_numbers_and_what_would(files: list[ModelFile]) -> None:
    def plan(ram: int, options: LoadOptions = SERVED, longest: int = 16_384) -> list[LoadOptions]:
        return planned(files, options, machine(ram=ram), longest=longest)

    assert all(options.room for options in plan(160))
    with pytest.raises(ModelLoadError) as caught:
        plan(96)
    assert re.fullmatch(
        r"big and other do not fit together: RAM lacks [\d.]+ GiB \(big takes 6\d.\d GiB, other "
        r"takes 6\d.\d GiB\); big alone would fit; or try --force to load them anyway",
        str(caught.value),
    )
    with pytest.raises(ModelLoadError, match=r"none of them fits; try --force"):
        plan(16)
    with pytest.raises(ModelLoadError, match=r"or try --ctx 4k, --force"):
        plan(160, longest=1 << 20)
    with pytest.raises(ModelLoadError, match=r"or try --ctx 4k, --kv-type q8_0, --force"):
        plan(160, longest=450_000)
    for options in plan(160, SERVED.but(kv_type="auto"), longest=450_000):
        assert options.kv_type == "q8_0"


def test_by_force_each_gets_what_cannot_be_read_again(files: list[ModelFile]) -> None:
    notes: list[str] = []
    forced = planned(
        files,
        SERVED.but(force=True),
        machine(ram=32),
        longest=8192,
        count=2,
        note=notes.append,
    )
    (note,) = notes
    assert "do not fit together: RAM lacks" in note
    for options in forced:
        assert options.room
        assert options.room.n_cells == 2 * 8192
        assert choose(files[0].shape, options, options.room.hardware).n_ctx == 8192


def test_a_card_that_is_too_small_is_named(files: list[ModelFile]) -> None:
    with pytest.raises(ModelLoadError, match=r"GPU 0 lacks [\d.]+ GiB .*--gpu-layers auto"):
        planned(files, SERVED, machine(80, ram=256), longest=8192)
    assert planned(files, AUTO, machine(80, ram=256), longest=8192)


def test_the_command_loads_nothing_that_does_not_fit(
    files: list[ModelFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l4cli.fit.hardware.probe", lambda: machine(ram=96))
    asked = [word for file in files for word in ("-m", str(file.path))]
    ended = run_here(["serve", "--port", "0", *asked])
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert "do not fit together: RAM lacks" in line
    twice = run_here(["serve", "--port", "0", *asked[:2], *asked[:2]])
    assert (twice.code, "is given twice" in twice.err) == (2, True)
    copy = tmp_path / "there" / "big.gguf"
    copy.parent.mkdir()
    copy.hardlink_to(files[0].path)
    same = run_here(["serve", "--port", "0", *asked, "-m", str(copy)])
    assert same.code == 2
    assert "have the same name big" in same.err
