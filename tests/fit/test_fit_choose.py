"""Where the weights go, which speed is given up first, and which loads are refused in advance."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import llama_cpp
import pytest
from checkpoints import PUBLISHED_SHAPES, make_config, write_checkpoint
from hollow import llama_log, write_hollow

import convert
from convert.outline import outline
from l4cli.engine.llamacpp.devices import cpu_features, devices, expert_patterns, on_cpu
from l4cli.errors import ContextOverflowError, ModelLoadError, UsageError
from l4cli.fit.choose import PlacementLimits, largest_context, place, prefill_on, smallest_kv_type
from l4cli.fit.described import described_shape
from l4cli.fit.hardware import GIB, Gpu, Hardware, gpu_bandwidth, probe
from l4cli.fit.memory import ContextSpec
from l4cli.fit.placement import fill
from l4cli.fit.plan import make_row
from l4cli.fit.shape import ModelShape
from l4cli.fit.speed import decode_tps
from l4cli.loading.choose import choose
from l4cli.loading.decide import check_cards, decide, line_without_cards
from l4cli.loading.decision import as_told
from l4cli.loading.file import ModelFile
from l4cli.loading.options import LoadOptions
from l4cli.models.locate import Located
from l4cli.models.registry import load_registry
from l4cli.native.memory import free_memory_bytes

AT_16K = ContextSpec(16_384)


def shape(model: str, ftype: str = "Q4_K_M") -> ModelShape:
    registry = load_registry()
    return described_shape(registry.models[model], ftype, registry)


def machine(*cards: int, ram: int) -> Hardware:
    """A machine with graphics cards and RAM of these sizes in GiB."""
    gpus = tuple(Gpu(f"GPU {i}", n * GIB, n * GIB, 1e12) for i, n in enumerate(cards))
    repacks = frozenset() if cards else frozenset({"Q4_K"})
    return Hardware(ram * GIB, ram * GIB, 100e9, gpus, repacks)


def test_experts_leave_the_card_before_layers_do() -> None:
    scout, hardware = shape("scout"), machine(24, ram=64)
    fit = place(scout, AT_16K, hardware)
    assert (fit.verdict, fit.placement.gpu_layers) == ("fits", 49)
    assert 0 < fit.placement.cpu_moe < 48
    assert fit.use.gpus[0].total <= hardware.gpus[0].usable
    assert fill(scout, AT_16K, hardware, 49, fit.placement.cpu_moe - 1) is None
    # If the card is too small even without any experts, layers stay in RAM, too.
    small = place(scout, AT_16K, machine(8, ram=80))
    assert (small.verdict, small.placement.cpu_moe) == ("fits", 48)
    assert 0 < small.placement.gpu_layers < 49


def test_with_all_experts_in_ram_mavericks_dense_layers_stay_on_the_card() -> None:
    maverick = shape("maverick")
    limits = PlacementLimits(cpu_moe=48)
    fit = place(maverick, AT_16K, machine(24, ram=256), limits)
    assert fit.placement.gpu_layers == 49
    assert fit.use.gpus[0].weights == maverick.dense_bytes
    assert fit.use.ram.weights == maverick.routed_bytes + maverick.embeddings.total
    assert fit.use.ram.kv == 0


def test_several_cards_are_filled_one_after_the_other() -> None:
    scout = shape("scout")
    hardware = machine(48, 24, ram=32)
    fit = place(scout, AT_16K, hardware)
    assert (fit.verdict, fit.placement.cpu_moe, sum(fit.placement.split)) == ("fits", 0, 49)
    used = zip(fit.use.gpus, hardware.gpus, strict=True)
    assert all(0 < use.total <= gpu.usable for use, gpu in used)
    asked = place(scout, AT_16K, hardware, PlacementLimits(gpu_layers=-1, cpu_moe=0, split=(3, 1)))
    assert asked.placement.split == (37, 12)


def test_in_ram_the_copy_is_given_up_first_and_then_the_disk_is_used() -> None:
    scout = replace(shape("scout"), largest_routed=16 << 20)  # a megabyte an expert
    assert place(scout, AT_16K, machine(ram=72)).placement.repack
    from_disk = place(scout, AT_16K, machine(ram=32))
    assert (from_disk.verdict, from_disk.placement.repack) == ("from disk", False)
    assert from_disk.missing == from_disk.use.ram.total - 31 * GIB
    too_large = place(scout, ContextSpec(10 << 20), machine(ram=32))
    assert too_large.verdict == "too large"
    assert too_large.shortfalls[0].device == "RAM"


@pytest.mark.parametrize("model", ["scout", "maverick"])
def test_large_experts_are_never_copied(model: str) -> None:
    assert not place(shape(model), AT_16K, machine(ram=1024)).placement.repack


def test_prompts_are_computed_by_themselves_where_experts_and_room_allow() -> None:
    def chosen(model: ModelShape, hardware: Hardware) -> str | None:
        return prefill_on(model, place(model, AT_16K, hardware), hardware)

    small = replace(shape("scout"), largest_routed=16 << 20)  # a megabyte an expert
    assert chosen(small, machine(ram=256)) == "file order"
    assert chosen(small, machine(ram=96)) is None  # the weights do not fit twice
    assert chosen(shape("scout"), machine(ram=128)) == "same"
    assert chosen(shape("scout"), machine(ram=32)) == "same"  # fewer reads from disk, too
    assert chosen(shape("scout"), machine(ram=2)) is None
    assert chosen(shape("scout"), machine(80, ram=256)) is None
    assert chosen(replace(shape("scout"), n_experts=0), machine(ram=256)) is None


def test_a_large_file_is_looked_into_for_large_experts(tmp_path: Path) -> None:
    path = write_hollow(tmp_path / "s.gguf", make_config("scout", **PUBLISHED_SHAPES), "Q4_K_M")
    decision = decide(ModelFile(Located(path, "s")), LoadOptions(ctx=4096, force=True))
    assert decision.repack == (not probe().repacks)


def test_the_largest_context_is_the_largest() -> None:
    scout = shape("scout")
    for hardware in (machine(ram=96), machine(24, ram=64), machine(80, ram=32)):
        most = largest_context(scout, AT_16K, hardware)
        assert place(scout, ContextSpec(most), hardware).verdict == "fits"
        assert place(scout, ContextSpec(most + 256), hardware).verdict != "fits"
    assert largest_context(scout, AT_16K, machine(ram=1024)) == 10 << 20
    assert largest_context(scout, AT_16K, machine(ram=16)) == 0


def test_a_cache_of_fewer_bits_where_f16_does_not_fit() -> None:
    scout, hardware = shape("scout"), machine(ram=96)
    assert smallest_kv_type(scout, AT_16K, hardware) == "f16"
    assert smallest_kv_type(scout, ContextSpec(1 << 20), hardware) == "q8_0"
    assert smallest_kv_type(scout, ContextSpec(10 << 20), hardware) == "q4_0"


def test_what_was_left_open_is_chosen_and_told_in_a_line() -> None:
    everything = LoadOptions(
        ctx="largest", kv_type="auto", gpu_layers="auto", cpu_moe="auto", tensor_split="auto"
    )
    decision = choose(shape("scout"), everything, machine(24, ram=64))
    assert (decision.gpu_layers, decision.kv_type, decision.split) == (-1, "f16", ())
    assert decision.n_ctx >= 16_384
    assert decision.cpu_moe == place(shape("scout"), AT_16K, machine(24, ram=64)).placement.cpu_moe
    assert decision.line is not None
    assert re.fullmatch(
        r"chosen: context [\d,]+k?, KV cache f16, 49 of 49 layers on the GPU, "
        r"experts of \d+ layers in RAM: takes [\d.]+ GiB of 23.0 GiB on GPU 0, "
        r"[\d.]+ GiB of 63.0 GiB RAM",
        decision.line,
    )
    assert choose(shape("scout"), LoadOptions(ctx=4096), machine(24, 48, ram=64)).line is None
    # In RAM, the context takes half of what the weights leave free.
    in_ram = choose(shape("scout"), LoadOptions(ctx="largest"), machine(ram=80))
    use = place(shape("scout"), ContextSpec(in_ram.n_ctx), machine(ram=80)).use.ram
    assert use.total - use.weights == pytest.approx((79 * GIB - use.weights) / 2, rel=0.01)


def test_saving_sequences_takes_the_chunked_layers_of_one_more() -> None:
    # Saving takes one more sequence: 36 chunked layers with 8192 cells of 4 KiB each.
    maverick, hardware = shape("maverick"), machine(ram=512)
    plain = choose(maverick, LoadOptions(ctx="largest"), hardware)
    kept = choose(maverick, LoadOptions(ctx="largest", store=True), hardware)
    assert plain.line
    assert kept.line
    assert plain.line != kept.line


def test_what_cannot_fit_is_refused_with_numbers_and_the_way_out() -> None:
    scout, hardware = shape("scout"), machine(ram=80)
    with pytest.raises(ModelLoadError) as caught:
        choose(scout, LoadOptions(ctx=10 << 20), hardware)
    assert re.fullmatch(
        r"scout:Q4_K_M does not fit: RAM lacks [\d.]+ GiB \(60.9 GiB of weights, 481.2 GiB of KV "
        r"cache\); try --ctx \d+k, --kv-type q8_0, --force to load it anyway",
        str(caught.value),
    )
    assert choose(scout, LoadOptions(ctx=10 << 20, force=True), hardware).n_ctx == 10 << 20
    with pytest.raises(ModelLoadError, match=r"GPU 0 lacks .* --gpu-layers auto"):
        choose(scout, LoadOptions(ctx=4096), machine(24, ram=64))


def test_weights_that_come_from_disk_are_announced() -> None:
    decision = choose(shape("scout"), LoadOptions(ctx=4096), machine(ram=32))
    assert decision.line is not None
    assert "of the weights do not fit in RAM and stay on disk" in decision.line
    assert not decision.repack


def test_nothing_to_choose_leaves_everything_as_it_was_said() -> None:
    asked = LoadOptions(ctx=4096, kv_type="q8_0", gpu_layers=7, cpu_moe=3, tensor_split=(1, 2))
    told = as_told(asked)
    assert (told.n_ctx, told.kv_type, told.gpu_layers, told.cpu_moe) == (4096, "q8_0", 7, 3)
    assert (told.split, told.line) == ((1.0, 2.0), None)


def test_what_binds_and_what_would_lift_it() -> None:
    def limit(model: str, hardware: Hardware, spec: ContextSpec = AT_16K) -> str:
        return make_row(model, shape(model), spec, hardware).limit

    assert limit("scout", machine(ram=1024)).endswith("with all 10M tokens it was trained for")
    said = limit("scout", machine(ram=80))
    match = re.fullmatch(r"fits; ([\d.]+) GiB more RAM allows (\d+k) tokens", said)
    assert match
    more = 80 + float(match[1]) + 0.06
    spec = ContextSpec(int(match[2][:-1]) << 10)
    grown = Hardware(round(more * GIB), round(more * GIB), 1e11, (), frozenset({"Q4_K"}))
    assert place(shape("scout"), spec, grown).verdict == "fits"
    assert "RAM lacks" in limit("scout", machine(ram=32), ContextSpec(10 << 20))
    assert "never published" in limit("behemoth", machine(ram=2048))


def test_speed_follows_the_bytes_a_token_touches() -> None:
    def tps(ftype: str, hardware: Hardware, depth: int = 0) -> float:
        scout = shape("scout", ftype)
        return decode_tps(
            scout, AT_16K, place(scout, AT_16K, hardware).placement, hardware, depth=depth
        )

    on_cpu_only, on_card = machine(ram=256), machine(80, ram=64)
    assert tps("Q4_K_M", on_card) > 3 * tps("Q4_K_M", on_cpu_only)
    assert tps("Q8_0", on_cpu_only) == pytest.approx(tps("Q4_K_M", on_cpu_only) * 0.55, rel=0.1)
    assert tps("Q4_K_M", on_cpu_only, depth=1 << 20) < tps("Q4_K_M", on_cpu_only) / 4


def test_this_machine_is_known() -> None:
    here = probe()
    assert 0 < here.ram_free <= here.ram_total
    assert free_memory_bytes() <= here.ram_total
    assert cpu_features()
    assert gpu_bandwidth("NVIDIA H100 80GB HBM3") == 3350e9
    assert gpu_bandwidth("NVIDIA L40S") == 864e9


def test_cards_that_are_not_here() -> None:
    check_cards(LoadOptions(gpu_layers="auto", tensor_split="auto"))
    wrong = LoadOptions(gpu_layers=-1, tensor_split=(1,) * (len(devices()) + 1))
    with pytest.raises(UsageError, match=r"no graphics card|--tensor-split names"):
        check_cards(wrong)


def test_the_override_list_takes_exactly_the_routed_experts(tmp_path: Path) -> None:
    config = make_config("maverick", **PUBLISHED_SHAPES)
    path = write_hollow(tmp_path / "maverick.gguf", config, "Q4_K_M")
    names = [output.name for output in outline(config, "a test").outputs]
    for n_layers in (48, 7):
        routed = {name for name in names if "_exps." in name and int(name.split(".")[1]) < n_layers}
        assert len(routed) == n_layers // 2 * 3  # three tensors of experts in every second layer
        assert _overridden(path, n_layers) == routed


def _overridden(path: Path, n_layers: int) -> set[str]:
    """The tensors that llama.cpp reports as overridden to the CPU."""
    overrides = on_cpu(expert_patterns(range(n_layers)))
    params = llama_cpp.llama_model_default_params()
    params.no_alloc, params.load_mode = True, 0
    params.tensor_buft_overrides = ctypes.addressof(overrides)
    with llama_log() as lines:
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert model
        llama_cpp.llama_model_free(model)
    found = re.findall(r"tensor (\S+) \(.*buffer type overridden to CPU", "".join(lines))
    return set(found)


def test_the_answer_is_the_same_wherever_the_weights_lie(tiny_gguf: Path) -> None:
    from l4cli import load

    with load(tiny_gguf, ctx=512, cpu_moe=2, gpu_layers="auto", threads=1) as llm:
        placed = llm.generate("Hello", max_tokens=8, temperature=0.0).text
    with load(tiny_gguf, ctx=512, threads=1) as llm:
        assert llm.generate("Hello", max_tokens=8, temperature=0.0).text == placed


def test_no_sequence_is_longer_than_the_model_was_trained_for(tmp_path: Path) -> None:
    from l4cli import load

    write_checkpoint(tmp_path / "short", max_position_embeddings=512, num_local_experts=2)
    gguf = tmp_path / "short.gguf"
    convert.convert(convert.plan(tmp_path / "short", "F32", force=True), gguf)
    notes: list[str] = []
    for ctx in (512, None):
        with load(gguf, ctx=ctx, threads=1, on_note=notes.append) as llm:
            assert (llm.n_ctx, llm.engine.backend.n_ctx) == (512, 512)
    assert notes == []
    with pytest.raises(UsageError, match=r"--ctx 513 is more than the 512 tokens that short was"):
        load(gguf, ctx=513)
    # Several sequences share a longer context; each can use as much as the model was trained for.
    with load(gguf, ctx=1024, parallel=2, threads=1, on_note=notes.append) as llm:
        assert (llm.n_ctx, llm.engine.backend.n_ctx) == (512, 1024)
        overlong = llm.request([{"role": "user", "content": "x" * 600}], max_tokens=1)
        with pytest.raises(ContextOverflowError):
            llm.engine.add_request(overlong)
    assert notes == [
        "one sequence can use only 512 of the 1k tokens of context: short was not trained for more"
    ]
    with pytest.raises(UsageError, match="more than 2 sequences times the 512 tokens"):
        load(gguf, ctx=1025, parallel=2)


@pytest.mark.parametrize(
    ("built_for_gpus", "cards", "gpu_layers", "is_said"),
    [
        (True, [], -1, True),
        (True, [], "auto", True),
        (True, [], 0, False),
        (True, ["card"], -1, False),
        (False, [], -1, False),
    ],
)
def test_a_gpu_build_says_that_it_computes_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
    built_for_gpus: bool,
    cards: list[str],
    gpu_layers: int | Literal["auto"],
    is_said: bool,
) -> None:
    monkeypatch.setattr("l4cli.loading.decide.devices", lambda: cards)
    monkeypatch.setattr("l4cli.loading.decide.has_gpu_support", lambda: built_for_gpus)
    line = line_without_cards(LoadOptions(gpu_layers=gpu_layers))
    assert ("runs on the CPU" in (line or "")) == is_said
