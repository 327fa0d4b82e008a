"""Plans decide everything from headers, exact to the byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from checkpoints import (
    MORE_SIZES,
    SIZES,
    read_weights,
    unfuse,
    write_checkpoint,
    write_hollow_checkpoint,
    write_outline,
    write_shards,
)
from numpy.typing import NDArray

import convert
from convert import ConvertError
from convert.checkpoint.hparams import RopeScaling
from convert.checkpoint.rope import rope_factors

SMALL = {"num_local_experts": 2}


def make(checkpoint: Path, ftype: str = "F32", **options: int) -> dict[str, NDArray[np.float32]]:
    """Convert, and read the tensors back with gguf's own reader."""
    out = checkpoint.with_name("out.gguf")
    plan = convert.plan(checkpoint, ftype)
    report = convert.convert(plan, out, overwrite=True, **options)
    assert report.n_bytes == plan.n_bytes == out.stat().st_size
    tensors = gguf.GGUFReader(out).tensors
    assert [tensor.name for tensor in tensors] == [tensor.name for tensor in plan.tensors]
    return {tensor.name: np.array(tensor.data) for tensor in tensors}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, convert; convert.FTYPES;"
        "print([m for m in ('numpy', 'gguf', 'llama_cpp', 'ctypes') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["scout", "maverick"])
def test_the_published_models_get_their_known_sizes(kind: str, tmp_path: Path) -> None:
    checkpoint = write_hollow_checkpoint(tmp_path / "model", kind=kind)
    for ftype, gigabytes in SIZES[kind].items():
        plan = convert.plan(checkpoint, ftype)
        assert plan.n_bytes / 1e9 == pytest.approx(gigabytes, abs=0.06)
        assert plan.n_params_active == pytest.approx(17.2e9, rel=0.01)
    assert plan.n_params == pytest.approx({"scout": 107.8e9, "maverick": 400.7e9}[kind], rel=1e-3)


@pytest.mark.parametrize("kind", ["scout", "maverick"])
def test_sizes_of_every_type_are_told_from_shapes_alone(kind: str, tmp_path: Path) -> None:
    checkpoint = write_hollow_checkpoint(tmp_path / "model", kind=kind)
    sizes = {size.ftype: size for size in convert.sizes(checkpoint)}
    assert list(sizes) == list(convert.FTYPES)
    for ftype, gigabytes in (SIZES[kind] | MORE_SIZES[kind]).items():
        assert sizes[ftype].n_bytes == pytest.approx(gigabytes * 1e9, rel=0.005)
    planned = convert.plan(checkpoint, "Q4_K_M")
    assert sizes["Q4_K_M"].n_bytes == planned.n_bytes
    assert sizes["Q4_K_M"].bits_per_weight == planned.bits_per_weight
    assert sizes["IQ1_S"].lacks_imatrix
    assert not any(sizes[ftype].lacks_imatrix for ftype in SIZES[kind])


@pytest.mark.parametrize(
    ("kind", "is_fp8"), [("scout", False), ("maverick", False), ("maverick", True)]
)
def test_config_and_index_alone_make_the_plan_that_the_shards_would(
    kind: str, is_fp8: bool, tmp_path: Path
) -> None:
    outline = write_outline(tmp_path / "outline", kind, is_fp8=is_fp8)
    for ftype, gigabytes in SIZES[kind].items():
        plan = convert.plan(outline, ftype)
        assert plan.n_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)
    whole = convert.plan(write_hollow_checkpoint(tmp_path / "model", kind=kind), "Q2_K")
    assert (plan.n_params, plan.n_params_active) == (whole.n_params, whole.n_params_active)
    assert [(t.name, t.shape, t.qtype, t.offset) for t in plan.tensors] == [
        (t.name, t.shape, t.qtype, t.offset) for t in whole.tensors
    ]
    absent, uncounted = (finding.message for finding in plan.findings)
    assert "the shards are absent" in absent
    assert "is not counted" in uncounted


def test_an_outline_with_its_tokenizer_is_sized_to_the_byte(tmp_path: Path) -> None:
    outline = write_outline(tmp_path / "a" / "model", "scout", tokenizer=True)
    whole = write_hollow_checkpoint(tmp_path / "b" / "model")
    assert convert.plan(outline, "Q4_K_M").n_bytes == convert.plan(whole, "Q4_K_M").n_bytes


def test_an_outline_can_be_planned_but_not_converted(tmp_path: Path) -> None:
    outline = write_checkpoint(tmp_path / "model", **SMALL)
    for shard in outline.glob("*.safetensors"):
        shard.unlink()
    plan = convert.plan(outline, "Q8_0")
    with pytest.raises(ConvertError, match=r"00001-of-00002\.safetensors: .*fetch it"):
        convert.convert(plan, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("out*"))


def test_the_names_in_an_outline_s_index_are_checked(tmp_path: Path) -> None:
    outline = write_outline(tmp_path / "model", "scout")
    path = outline / "model.safetensors.index.json"
    sound = path.read_text()
    path.write_text(sound.replace("layers.7.self_attn.q_proj", "layers.7.self_attn.w_proj"))
    with pytest.raises(ConvertError, match=r"no tensor model\.layers\.7\.self_attn\.q_proj"):
        convert.plan(outline, "Q8_0")
    path.write_text(
        sound.replace("model.norm.weight", "model.norm.extra", 1).replace(
            '"weight_map": {',
            '"weight_map": {"language_model.model.norm.weight": "x.safetensors", ',
        )
    )
    with pytest.raises(ConvertError, match=r"unknown tensor language_model\.model\.norm\.extra"):
        convert.plan(outline, "Q8_0")


def test_every_tensor_is_the_source_s_rearranged(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", dtype="F32", **SMALL)
    source, made = read_weights(checkpoint), make(checkpoint)
    moe = "model.layers.2.feed_forward."
    fused = source[f"{moe}experts.gate_up_proj"].transpose(0, 2, 1)
    down = source[f"{moe}experts.down_proj"].transpose(0, 2, 1)
    expected = {
        "token_embd": source["model.embed_tokens.weight"],
        "output": source["lm_head.weight"],
        "output_norm": source["model.norm.weight"],
        "blk.2.attn_norm": source["model.layers.2.input_layernorm.weight"],
        "blk.2.ffn_norm": source["model.layers.2.post_attention_layernorm.weight"],
        "blk.2.attn_q": source["model.layers.2.self_attn.q_proj.weight"],
        "blk.2.attn_output": source["model.layers.2.self_attn.o_proj.weight"],
        "blk.2.ffn_gate_inp": source[f"{moe}router.weight"],
        "blk.2.ffn_down_shexp": source[f"{moe}shared_expert.down_proj.weight"],
        "blk.2.ffn_gate_exps": fused[:, :256],
        "blk.2.ffn_up_exps": fused[:, 256:],
        "blk.2.ffn_down_exps": down,
    }
    for name, array in expected.items():
        np.testing.assert_array_equal(made[f"{name}.weight"], array, err_msg=name)
    assert len(made) == 4 * 13 + 4


@pytest.mark.parametrize("multimodal", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_the_layout_of_the_source_does_not_matter(
    multimodal: bool, fused: bool, shards: int, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", num_hidden_layers=1, **SMALL)
    expected = make(checkpoint)
    weights = read_weights(checkpoint)
    if not fused:
        weights = unfuse(weights)
    variant = write_checkpoint(
        tmp_path / "variant" / "model", multimodal=multimodal, num_hidden_layers=1, **SMALL
    )
    for file in variant.glob("*.safetensors*"):
        file.unlink()
    prefix = "language_model." if multimodal else ""
    renamed = {prefix + name: array for name, array in weights.items()}
    if multimodal:
        renamed["vision_model.patch_embedding.linear.weight"] = np.ones((4, 4), np.float32)
        renamed["multi_modal_projector.linear_1.weight"] = np.ones((4, 4), np.float32)
    write_shards(variant, renamed, shards=shards)
    made = make(variant)
    assert made.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(made[name], array, err_msg=name)


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 5, "ram": 1}])
def test_threads_and_memory_do_not_change_a_byte(options: dict[str, int], tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", **SMALL)
    expected = make(checkpoint, "Q6_K")
    made = make(checkpoint, "Q6_K", **options)
    assert all(np.array_equal(made[name], array) for name, array in expected.items())


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", **SMALL)
    plan = convert.plan(checkpoint, "Q8_0")
    seen: list[convert.Progress] = []
    convert.convert(plan, tmp_path / "out.gguf", progress=seen.append)
    done = [step.bytes_done for step in seen]
    assert done == sorted(done)
    assert done[-1] == seen[-1].bytes_total == sum(tensor.n_bytes for tensor in plan.tensors)
    assert {step.tensor for step in seen} == {tensor.name for tensor in plan.tensors}


def test_metadata_is_what_llama_cpp_reads(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "Tiny-Scout-Instruct")
    fields = {key: field.value for key, field in convert.plan(checkpoint, "Q4_K_M").fields.items()}
    assert fields["general.architecture"] == "llama4"
    assert fields["general.name"] == "Tiny Scout Instruct"
    assert fields["general.file_type"] == 15
    assert fields["general.sampling.temp"] == 0.6
    assert fields["llama4.expert_count"] == 16
    assert fields["llama4.expert_used_count"] == 1
    assert fields["llama4.feed_forward_length"] == 512
    assert fields["llama4.expert_feed_forward_length"] == 256
    assert fields["llama4.interleave_moe_layer_step"] == 1
    assert fields["llama4.context_length"] == 10_485_760
    assert fields["llama4.rope.dimension_count"] == fields["llama4.attention.key_length"] == 64
    assert "llama4.attention.sliding_window" not in fields


def test_rope_scaling_becomes_a_tensor_of_factors(tmp_path: Path) -> None:
    scout = make(write_checkpoint(tmp_path / "model", **SMALL))
    factors = scout["rope_freqs.weight"]
    assert factors.shape == (32,)
    assert set(factors) == {1.0, 16.0}  # low = high, so no factor is in between
    assert np.all(np.diff(factors) >= 0)
    maverick = write_checkpoint(tmp_path / "maverick", kind="maverick", num_hidden_layers=2)
    assert "rope_freqs.weight" not in make(maverick)


def test_rope_factors_blend_between_the_bounds() -> None:
    factors = rope_factors(128, 500_000.0, RopeScaling(8.0, 1.0, 4.0, 8192))
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert sum(1.0 < factor < 8.0 for factor in factors) > 2
    assert list(factors) == sorted(factors)
