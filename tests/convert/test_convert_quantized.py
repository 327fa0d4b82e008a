"""Quantized checkpoints: scales per channel, group, block or tensor."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import (
    SourceArray,
    encode,
    read_weights,
    unfuse,
    write_checkpoint,
    write_mixed_shard,
)
from decoders import write_decoder
from numpy.typing import NDArray

import convert
from convert import ConvertError
from convert.checkpoint.dequantize import e4m3_values, from_float16

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}
CHANNEL = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"weights": {"strategy": "channel", "num_bits": 8}}},
}
BLOCK = {"quant_method": "fp8", "weight_block_size": [96, 128]}  # 96: the last block is incomplete
TENSOR = {"quant_method": "fp8"}
Q = "model.layers.0.self_attn.q_proj.weight"


def scale_of(weight: NDArray[np.float32], config: dict[str, Any]) -> NDArray[np.float32]:
    """The scales of a matrix in the config's scheme: [rows, 1], [blocks, blocks] or [1]."""
    magnitude = np.abs(weight)
    if config is TENSOR:
        return magnitude.max().reshape(1) / 448
    if config is CHANNEL:
        return magnitude.max(axis=1, keepdims=True) / 448
    rows, cols = BLOCK["weight_block_size"]
    across = [magnitude[:, at : at + cols].max(axis=1) for at in range(0, weight.shape[1], cols)]
    stacked = np.stack(across, axis=1)
    down = [stacked[at : at + rows].max(axis=0) for at in range(0, len(weight), rows)]
    return np.stack(down) / 448


def spread(scale: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The scale of every weight."""
    if scale.ndim == 2 and scale.shape[1] > 1:
        rows, cols = BLOCK["weight_block_size"]
        scale = scale.repeat(rows, axis=0).repeat(cols, axis=1)[: shape[0], : shape[1]]
    return np.broadcast_to(scale, shape)


def nearest_codes(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    codes = np.argsort(e4m3_values(), kind="stable")[:254]  # without the two NaNs
    at = np.searchsorted(e4m3_values()[codes], values).clip(0, 253)
    return codes[at].astype(np.uint8)


def write_fp8(path: Path, config: dict[str, Any], *, suffix: str) -> dict[str, Any]:
    """Write an unfused FP8 checkpoint. Return its dequantized weights by stored name."""
    plain = write_checkpoint(path, shards=1, quantization_config=config, **SMALL)
    stored: dict[str, SourceArray] = {}
    expected: dict[str, NDArray[np.float32]] = {}
    for name, weight in unfuse(read_weights(plain)).items():
        expected[name] = weight
        stored[name] = ("F32", weight)
        if "proj" in name:
            scale = scale_of(weight, config).astype(np.float32)
            codes = nearest_codes(weight / spread(scale, weight.shape))
            stored[name] = ("F8_E4M3", codes)
            stored[name + suffix] = ("F32", scale)
            stored[name.replace(".weight", ".input_scale")] = ("F32", np.ones(1, np.float32))
            expected[name] = e4m3_values()[codes] * spread(scale, weight.shape)
    write_mixed_shard(path / "model.safetensors", stored)
    return expected


@pytest.mark.parametrize("ram", [1, 512 << 20])
@pytest.mark.parametrize(
    ("config", "suffix"),
    [(CHANNEL, "_scale"), (BLOCK, "_scale_inv"), (TENSOR, "_scale")],
    ids=["channel", "block", "tensor"],
)
def test_weights_are_numbers_times_scales(
    config: dict[str, Any], suffix: str, ram: int, tmp_path: Path
) -> None:
    expected = write_fp8(tmp_path / "model", config, suffix=suffix)
    out = tmp_path / "out.gguf"
    convert.convert(convert.plan(tmp_path / "model", "F32"), out, ram=ram)
    made = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out).tensors}
    np.testing.assert_array_equal(made["blk.0.attn_q.weight"], expected[Q])
    for kind in ("gate", "up", "down"):
        prefix = "model.layers.0.feed_forward."
        shared = expected[f"{prefix}shared_expert.{kind}_proj.weight"]
        np.testing.assert_array_equal(made[f"blk.0.ffn_{kind}_shexp.weight"], shared)
        routed = [expected[f"{prefix}experts.{e}.{kind}_proj.weight"] for e in range(2)]
        np.testing.assert_array_equal(made[f"blk.0.ffn_{kind}_exps.weight"], np.stack(routed))


def test_the_codes_are_those_of_e4m3fn() -> None:
    values = e4m3_values()
    assert list(values[[0x00, 0x01, 0x08, 0x38, 0x7E, 0xB8]]) == [0, 2**-9, 2**-6, 1, 448, -1]
    assert np.isnan(values[[0x7F, 0xFF]]).all()
    assert np.isnan(values).sum() == 2


def test_a_missing_scale_is_named(tmp_path: Path) -> None:
    write_fp8(tmp_path / "model", CHANNEL, suffix="_lost")
    with pytest.raises(ConvertError, match=r"there is no .*_scale for it"):
        convert.plan(tmp_path / "model", "Q8_0")


def test_a_scale_that_does_not_fit_is_named(tmp_path: Path) -> None:
    write_fp8(tmp_path / "model", BLOCK, suffix="_scale_inv")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace("96", "64"))
    with pytest.raises(ConvertError, match="does not cover"):
        convert.plan(tmp_path / "model", "Q8_0")


@dataclass(frozen=True)
class Integers:
    """A way to quantize to integers. `group` columns share a scale; 0: the whole row does."""

    bits: int
    group: int
    is_symmetric: bool = True
    is_packed: bool = True
    is_shuffled: bool = False  # the columns of a group are not adjacent (actorder)


INTEGERS = {
    "W4A16": Integers(4, 64),
    "W4A16 asymmetric": Integers(4, 32, is_symmetric=False),
    "W4A16 by channel": Integers(4, 0),
    "W4A16 actorder": Integers(4, 64, is_symmetric=False, is_shuffled=True),
    "W8A16": Integers(8, 0),
    "W8A16 asymmetric": Integers(8, 128, is_symmetric=False),
    "W2A16": Integers(2, 32),
    "W8A8": Integers(8, 0, is_packed=False),
    "W8A8 asymmetric": Integers(8, 0, is_symmetric=False, is_packed=False),
}


def pack(numbers: NDArray[np.integer[Any]], bits: int) -> NDArray[np.int32]:
    """Pack signed numbers [n_rows, n_cols] into words, as compressed-tensors does."""
    per_word = 32 // bits
    unsigned = (numbers.astype(np.int64) + (1 << (bits - 1))).astype(np.uint32)
    padded = np.pad(unsigned, ((0, 0), (0, -numbers.shape[1] % per_word)))
    places = padded.reshape(len(padded), -1, per_word) << (np.arange(per_word) * bits)
    return np.bitwise_or.reduce(places, axis=2).astype(np.uint32).view(np.int32)


def quantize(
    name: str, weight: NDArray[np.float32], how: Integers
) -> tuple[dict[str, SourceArray], NDArray[np.float32]]:
    """The tensors that are stored for a matrix, and the weights that they dequantize to."""
    (n_rows, n_cols), random = weight.shape, np.random.RandomState([*name.encode()])
    n_groups = n_cols // how.group if how.group else 1
    groups = np.arange(n_cols) // (how.group or n_cols)
    if how.is_shuffled:
        groups = random.permutation(groups)
    limit = 1 << (how.bits - 1)
    numbers = random.randint(-limit, limit, (n_rows, n_cols))
    zero = random.randint(-limit, limit, (n_rows, n_groups))
    scale = encode(random.uniform(0.001, 0.01, (n_rows, n_groups)).astype(np.float32), "BF16")
    stored: dict[str, SourceArray] = {f"{name}_scale": ("BF16", scale)}
    if not how.is_packed:
        stored[name] = ("I8", numbers.astype(np.int8))
    else:
        stored[f"{name}_packed"] = ("I32", pack(numbers, how.bits))
        stored[f"{name}_shape"] = ("I64", np.array([n_rows, n_cols]))
    if how.is_shuffled:
        stored[f"{name}_g_idx"] = ("I32", groups.astype(np.int32))
    if how.is_symmetric:
        zero[:] = 0
    elif how.is_packed:
        stored[f"{name}_zero_point"] = ("I32", pack(zero.T, how.bits).T)
    else:
        stored[f"{name}_zero_point"] = ("I8", zero.astype(np.int8))
    wide = (scale.astype("<u4") << 16).view(np.float32)[:, groups]
    return stored, (numbers - zero[:, groups]).astype(np.float32) * wide


def write_integers(path: Path, how: Integers, form: str = "pack-quantized") -> dict[str, Any]:
    """Write a Mixtral of integers, except for embeddings and norms.

    Return its dequantized weights by stored name.
    """
    config = {"quant_method": "compressed-tensors", "format": form, "config_groups": {}}
    write_decoder(path, "mixtral", shards=1, num_hidden_layers=1, quantization_config=config)
    stored: dict[str, SourceArray] = {}
    expected: dict[str, NDArray[np.float32]] = {}
    for name, weight in read_weights(path).items():
        stored[name], expected[name] = ("F32", weight), weight
        if "_proj" in name or ".experts." in name:
            del stored[name]
            arrays, expected[name] = quantize(name, weight, how)
            stored |= arrays
    write_mixed_shard(path / "model.safetensors", stored)
    return expected


@pytest.mark.parametrize("ram", [1, 512 << 20])
@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_unpacked_shifted_and_scaled(name: str, ram: int, tmp_path: Path) -> None:
    form = "pack-quantized" if INTEGERS[name].is_packed else "int-quantized"
    expected = write_integers(tmp_path / "model", INTEGERS[name], form)
    out = tmp_path / "out.gguf"
    convert.convert(convert.plan(tmp_path / "model", "F32"), out, ram=ram)
    made = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out).tensors}
    prefix = "model.layers.0."
    queries = expected[f"{prefix}self_attn.q_proj.weight"]
    queries = queries.reshape(4, 2, 16, 128).swapaxes(1, 2).reshape(128, 128)
    np.testing.assert_array_equal(made["blk.0.attn_q.weight"], queries)
    outputs = expected[f"{prefix}self_attn.o_proj.weight"]
    np.testing.assert_array_equal(made["blk.0.attn_output.weight"], outputs)
    routed = [expected[f"{prefix}block_sparse_moe.experts.{e}.w2.weight"] for e in range(4)]
    np.testing.assert_array_equal(made["blk.0.ffn_down_exps.weight"], np.stack(routed))


def test_llama_4_s_experts_may_be_packed_one_by_one(tmp_path: Path) -> None:
    config = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    model = write_checkpoint(
        tmp_path / "model", multimodal=True, shards=1, quantization_config=config, **SMALL
    )
    stored: dict[str, SourceArray] = {}
    expected: dict[str, NDArray[np.float32]] = {}
    for name, weight in unfuse(read_weights(model)).items():
        stored[name] = ("F32", weight)
        if ".experts." in name:
            del stored[name]
            arrays, expected[name] = quantize(name, weight, INTEGERS["W4A16"])
            stored |= arrays
    write_mixed_shard(model / "model.safetensors", stored)
    out = tmp_path / "out.gguf"
    convert.convert(convert.plan(model, "F32"), out)
    made = {tensor.name: tensor.data for tensor in gguf.GGUFReader(out).tensors}
    prefix = "language_model.model.layers.0.feed_forward.experts."
    routed = [expected[f"{prefix}{expert}.up_proj.weight"] for expert in range(2)]
    np.testing.assert_array_equal(made["blk.0.ffn_up_exps.weight"], np.stack(routed))


def test_verification_reads_packed_integers_too(tmp_path: Path) -> None:
    write_integers(tmp_path / "model", INTEGERS["W4A16 actorder"])
    plan = convert.plan(tmp_path / "model", "Q8_0")
    assert convert.verify(plan, convert.convert(plan, tmp_path / "out.gguf").path).is_fine


def test_companions_that_do_not_fit_are_named(tmp_path: Path) -> None:
    how = INTEGERS["W4A16 actorder"]
    write_integers(tmp_path / "model", how)
    path = tmp_path / "model" / "model.safetensors"
    sound = path.read_bytes()
    for old, new, message in (
        (b'"I32", "shape": [128, 16]', b'"U32", "shape": [128, 16]', "q_proj.weight_packed of U32"),
        (b'"BF16", "shape": [128, 2]', b'"BF16", "shape": [2, 128]', "does not cover"),
        (b'"I32", "shape": [16, 2]', b'"I32", "shape": [2, 16]', "zero_point of I32"),
        (b'"I32", "shape": [128]}', b'"F32", "shape": [128]}', "g_idx of F32"),
        (b"weight_scale", b"weight_skale", "no model.layers.0.self_attn.q_proj.weight_scale"),
    ):
        path.write_bytes(sound.replace(old.replace(b"]}", b"]"), new.replace(b"]}", b"]")))
        with pytest.raises(ConvertError, match=message) as caught:
            convert.plan(tmp_path / "model", "Q8_0")
        assert "\n" not in str(caught.value)


def test_a_group_that_is_none_is_named(tmp_path: Path) -> None:
    write_integers(tmp_path / "model", Integers(4, 64, is_shuffled=True))
    path = tmp_path / "model" / "model.safetensors"
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, info in json.loads(raw[8:start]).items():
        if name.endswith("q_proj.weight_g_idx"):
            at = start + info["data_offsets"][0]
            path.write_bytes(raw[:at] + (7).to_bytes(4, "little") + raw[at + 4 :])
    plan = convert.plan(tmp_path / "model", "Q8_0")
    with pytest.raises(ConvertError, match=r"q_proj\.weight_g_idx names group 7 of 2"):
        convert.convert(plan, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "mxfp4"},
        {
            "quant_method": "compressed-tensors",
            "format": "float-quantized",
            "sparsity_config": {"format": "sparse-24-bitmask"},
        },
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "transform_config": {"config_groups": {"R4": {"type": "hadamard"}}},
        },
        {
            "quant_method": "compressed-tensors",
            "format": "mixed-precision",
            "config_groups": {"a": {"format": "mxfp4-pack-quantized"}},
        },
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
    ],
)
def test_other_quantization_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", quantization_config=config, **SMALL)
    with pytest.raises(ConvertError, match=r"config\.json: the checkpoint is quantized"):
        convert.plan(checkpoint, "Q8_0")
    assert json.loads((checkpoint / "config.json").read_text())["quantization_config"] == config


def test_every_float16_is_the_float32_that_numpy_makes_of_it() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    finite = np.where(np.isfinite(halves), halves, np.float16(0))
    for rows in (finite, finite.T, finite[:, ::2], finite[:0]):
        made = from_float16(rows)
        assert made.flags.c_contiguous
        assert made.tobytes() == rows.astype(np.float32, order="C").tobytes()
    for odd in (np.inf, -np.inf, np.nan):
        rows = np.array([[1, odd]], np.float16)
        assert from_float16(rows).tobytes() == rows.astype(np.float32).tobytes()
