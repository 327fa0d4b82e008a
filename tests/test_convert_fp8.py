"""FP8 checkpoints: number times scale, by channel, by block, or one for all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from checkpoints import SourceArray, read_weights, unfuse, write_checkpoint, write_mixed_shard
from numpy.typing import NDArray

import convert
from convert import ConvertError
from convert.fp8 import e4m3_values

SMALL = {"num_local_experts": 2, "num_hidden_layers": 1}
CHANNEL = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"weights": {"strategy": "channel", "num_bits": 8}}},
}
BLOCK = {"quant_method": "fp8", "weight_block_size": [96, 128]}  # 96: the last block is cut
TENSOR = {"quant_method": "fp8"}
Q = "model.layers.0.self_attn.q_proj.weight"


def scale_of(weight: NDArray[np.float32], config: dict[str, Any]) -> NDArray[np.float32]:
    """The scales of a matrix, as the config says: [rows, 1], [blocks, blocks] or [1]."""
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
    """Write an unfused FP8 checkpoint; what its weights come to, by stored name."""
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
    with pytest.raises(ConvertError, match=r"there is no .*_scale beside it"):
        convert.plan(tmp_path / "model", "Q8_0")


def test_a_scale_that_does_not_fit_is_named(tmp_path: Path) -> None:
    write_fp8(tmp_path / "model", BLOCK, suffix="_scale_inv")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace("96", "64"))
    with pytest.raises(ConvertError, match="does not cover"):
        convert.plan(tmp_path / "model", "Q8_0")


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    ],
)
def test_other_quantization_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "model", quantization_config=config, **SMALL)
    with pytest.raises(ConvertError, match=r"config\.json: the checkpoint is quantized"):
        convert.plan(checkpoint, "Q8_0")
    assert json.loads((checkpoint / "config.json").read_text())["quantization_config"] == config
