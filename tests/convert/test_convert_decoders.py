"""Models built like Llama: where each one differs. test_convert_logits compares their logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import read_weights, write_shards
from decoders import KINDS, write_decoder
from numpy.typing import NDArray
from quantizer import picked_types, write_hollow_gguf

import convert
from convert import ConvertError


def made(checkpoint: Path, **options: int) -> dict[str, NDArray[np.float32]]:
    out = checkpoint.with_name("out.gguf")
    convert.convert(convert.plan(checkpoint, "F32"), out, **options)
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(out).tensors}


@pytest.mark.parametrize("ram", [1, 512 << 20])
def test_llama_s_queries_are_shuffled_for_llama_cpp_s_rotation(ram: int, tmp_path: Path) -> None:
    shapes = {"hidden_size": 1024, "intermediate_size": 64, "num_hidden_layers": 1}
    checkpoint = write_decoder(tmp_path / "model", "llama2", head_dim=256, **shapes)
    tensors, weights = made(checkpoint, ram=ram), read_weights(checkpoint)
    for name in ("q", "k"):
        stored = weights[f"model.layers.0.self_attn.{name}_proj.weight"]
        expected = stored.reshape(4, 2, 128, 1024).swapaxes(1, 2).reshape(1024, 1024)
        np.testing.assert_array_equal(tensors[f"blk.0.attn_{name}.weight"], expected)
    values = weights["model.layers.0.self_attn.v_proj.weight"]
    np.testing.assert_array_equal(tensors["blk.0.attn_v.weight"], values)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3moe"])
def test_experts_are_put_upon_each_other(kind: str, tmp_path: Path) -> None:
    checkpoint = write_decoder(tmp_path / "model", kind)
    tensors, weights = made(checkpoint), read_weights(checkpoint)
    prefix, down = {"mixtral": ("block_sparse_moe.", "w2"), "qwen3moe": ("mlp.", "down_proj")}[kind]
    n_experts = len(tensors["blk.1.ffn_down_exps.weight"])
    for expert in range(n_experts):
        name = f"model.layers.1.{prefix}experts.{expert}.{down}.weight"
        np.testing.assert_array_equal(tensors["blk.1.ffn_down_exps.weight"][expert], weights[name])
    plan = convert.plan(checkpoint, "F32")
    routed = sum(t.output.n_params for t in plan.tensors if "_exps" in t.name)
    used = {"mixtral": 2, "qwen3moe": 3}[kind]
    assert plan.n_params - plan.n_params_active == routed - routed * used // n_experts


def test_experts_may_lie_upon_each_other_already(tmp_path: Path) -> None:
    checkpoint = write_decoder(tmp_path / "model", "qwen3moe", shards=1, num_hidden_layers=1)
    expected, weights = made(checkpoint), read_weights(checkpoint)
    prefix = "model.layers.0.mlp.experts."
    apart = {
        kind: np.stack([weights.pop(f"{prefix}{e}.{kind}_proj.weight") for e in range(8)])
        for kind in ("gate", "up", "down")
    }
    weights[f"{prefix}gate_up_proj"] = np.concatenate((apart["gate"], apart["up"]), axis=1)
    weights[f"{prefix}down_proj"] = apart["down"]
    write_shards(checkpoint, weights, shards=1)
    tensors = made(checkpoint)
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array, err_msg=name)


def test_a_tied_model_has_no_output_matrix_and_qwen2_has_biases(tmp_path: Path) -> None:
    tensors = made(write_decoder(tmp_path / "model", "qwen2"))
    assert "output.weight" not in tensors
    assert tensors["blk.0.attn_k.bias"].shape == (64,)
    assert "blk.0.attn_output.bias" not in tensors


def test_yarn_is_carried_over_in_either_notation(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    old = write_decoder(tmp_path / "old", "qwen3", rope_scaling=scaling | {"beta_fast": 32.0})
    fields = {key: field.value for key, field in convert.plan(old, "F32").fields.items()}
    assert fields["qwen3.rope.scaling.type"] == "yarn"
    assert fields["qwen3.rope.scaling.factor"] == 4.0
    assert fields["qwen3.rope.scaling.original_context_length"] == 1024
    assert fields["qwen3.rope.scaling.yarn_beta_fast"] == 32.0
    new = write_decoder(tmp_path / "new", "qwen3", rope_parameters=scaling | {"rope_theta": 5e6})
    fields = {key: field.value for key, field in convert.plan(new, "F32").fields.items()}
    assert fields["qwen3.rope.scaling.factor"] == 4.0
    assert fields["qwen3.rope.freq_base"] == 5e6


@pytest.mark.parametrize("kind", ["llama3", "qwen2", "qwen3"])
def test_eighty_layers_of_llama_and_qwen2_are_taken_for_70b(kind: str, tmp_path: Path) -> None:
    shapes = {"hidden_size": 256, "num_hidden_layers": 80, "head_dim": 64}
    checkpoint = write_decoder(tmp_path / "model", kind, **shapes)
    types = {tensor.name: tensor.qtype for tensor in convert.plan(checkpoint, "Q4_K_S").tensors}
    hollow = write_hollow_gguf(tmp_path / "hollow.gguf", checkpoint)
    theirs = picked_types(hollow, "Q4_K_S")
    assert {name: types[name] for name in theirs} == theirs
    assert types["blk.40.attn_v.weight"] == ("Q4_K" if kind == "qwen3" else "Q5_K")


def test_frequencies_that_old_exports_store_are_left_out(tmp_path: Path) -> None:
    checkpoint = write_decoder(tmp_path / "model", "llama2", shards=1)
    expected = convert.plan(checkpoint, "F32").n_bytes
    weights = read_weights(checkpoint)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(16, np.float32)
    write_shards(checkpoint, weights, shards=1)
    assert convert.plan(checkpoint, "F32").n_bytes == expected


# kind, overrides of the config, level, message
FINDINGS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "activation": ("llama2", {"hidden_act": "gelu"}, "error", "hidden_act is gelu"),
    "bias": ("llama2", {"attention_bias": True}, "error", "attention_bias is true"),
    "rope": (
        "llama3",
        {"rope_scaling": {"rope_type": "longrope"}},
        "error",
        "rope_type longrope is not supported",
    ),
    "YaRN's bounds": (
        "qwen3",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16}},
        "error",
        "beta_fast is 16; llama.cpp computes with 32",
    ),
    "YaRN's factor": (
        "llama2",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.0}},
        "error",
        "attention_factor is 1; llama.cpp computes with 1.139",
    ),
    "window": ("mistral", {"sliding_window": 1024}, "warning", "contexts over 1024 tokens"),
    "Qwen's window": (
        "qwen2",
        {"sliding_window": 1024, "use_sliding_window": True},
        "warning",
        "contexts over 1024 tokens",
    ),
    "Qwen2's heads": ("qwen2", {"head_dim": 16}, "error", "is not hidden_size"),
    "dense layers": ("qwen3moe", {"mlp_only_layers": [0]}, "error", "some layers have no experts"),
    "weights of experts": ("qwen3moe", {"norm_topk_prob": False}, "error", "norm_topk_prob"),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_what_llama_cpp_does_otherwise_is_told(name: str, tmp_path: Path) -> None:
    kind, overrides, level, message = FINDINGS[name]
    checkpoint = write_decoder(tmp_path / "model", kind, **overrides)
    if level == "error":
        with pytest.raises(ConvertError, match=message):
            convert.plan(checkpoint, "Q8_0")
    findings = convert.plan(checkpoint, "Q8_0", force=True).findings
    assert [f.level for f in findings if message in f.message] == [level]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_checkpoint_raises_no_eyebrow(kind: str, tmp_path: Path) -> None:
    unused = {"sliding_window": 1024} if kind == "qwen2" else {}  # stated, but not in use
    checkpoint = write_decoder(tmp_path / "model", kind, **unused)
    findings = convert.plan(checkpoint, "Q8_0").findings
    assert [f.message for f in findings if "chat template" not in f.message] == []
