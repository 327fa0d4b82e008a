"""Writes tiny Llama 4 checkpoints in Hugging Face layout, with numpy alone.

    write_checkpoint(tmp_path / "model")                                  # Scout-like
    write_checkpoint(tmp_path / "model", kind="maverick", dtype="F32")    # Maverick-like
    write_checkpoint(tmp_path / "model", fused=False, multimodal=True, shards=3)

The weights are noise from a random stream that never changes. So a checkpoint is the same on every
machine, and goldens can be made of it. `read_weights` reads them back as float32, to compare them
with a conversion's result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiny_tokenizer import (
    BOS_ID,
    CHAT_TEMPLATE,
    EOT_ID,
    SPECIAL_IDS,
    VOCAB_SIZE,
    write_tokenizer,
)

__all__ = [
    "BOS_ID",
    "CHAT_TEMPLATE",
    "EOT_ID",
    "PUBLISHED_SHAPES",
    "RECIPE_MODELS",
    "SPECIAL_IDS",
    "VOCAB_SIZE",
    "SourceArray",
    "encode",
    "fingerprint",
    "make_config",
    "noise",
    "read_weights",
    "tensor_shapes",
    "unfuse",
    "write_checkpoint",
    "write_hollow_checkpoint",
    "write_mixed_shard",
    "write_outline",
    "write_safetensors",
    "write_shards",
    "write_tokenizer",
]

# The hyperparameters that Scout and Maverick share; those that differ are in _KINDS.
PUBLISHED_SHAPES: dict[str, Any] = {
    "hidden_size": 5120,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "vocab_size": 202_048,
}

# The models of tests/golden/recipe.json: kind and shapes. They are the published models, and two
# for which the recipe has special rules: exactly 8 experts, and fewer than 4 query heads per KV
# head.
RECIPE_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "scout": ("scout", PUBLISHED_SHAPES),
    "maverick": ("maverick", PUBLISHED_SHAPES),
    "8 experts": ("scout", PUBLISHED_SHAPES | {"num_local_experts": 8}),
    "20 KV heads": ("scout", PUBLISHED_SHAPES | {"num_key_value_heads": 20}),
}

SourceArray = tuple[str, NDArray[Any]]  # a dtype's name in safetensors, and the data

_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_KINDS: dict[str, dict[str, Any]] = {
    "scout": {
        "num_local_experts": 16,
        "interleave_moe_layer_step": 1,
        "use_qk_norm": True,
        "intermediate_size": 256,
        "max_position_embeddings": 10_485_760,
        "rope_scaling": {
            "factor": 16.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
    },
    "maverick": {
        "num_local_experts": 128,
        "interleave_moe_layer_step": 2,
        "use_qk_norm": False,
        "intermediate_size": 64,
        "max_position_embeddings": 1_048_576,
        "rope_scaling": None,
    },
}


def make_config(kind: str = "scout", **overrides: Any) -> dict[str, Any]:
    """The text config of a tiny model; `overrides` are values of transformers' Llama4TextConfig."""
    return {
        "architectures": ["Llama4ForCausalLM"],
        "model_type": "llama4_text",
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "intermediate_size_mlp": 512,
        "num_experts_per_tok": 1,
        "vocab_size": VOCAB_SIZE,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_chunk_size": 8192,
        "attn_temperature_tuning": True,
        "attn_scale": 0.1,
        "floor_scale": 8192,
        "no_rope_layers": [],
        "tie_word_embeddings": False,
        "bos_token_id": BOS_ID,
        "eos_token_id": [SPECIAL_IDS[text] for text in ("<|end_of_text|>", "<|eom|>", "<|eot|>")],
        "pad_token_id": SPECIAL_IDS["<|finetune_right_pad|>"],
        "torch_dtype": "bfloat16",
        **_KINDS[kind],
        **overrides,
    }


def write_checkpoint(
    path: Path,
    *,
    kind: str = "scout",
    dtype: str = "BF16",
    fused: bool = True,
    multimodal: bool = False,
    shards: int = 2,
    seed: int = 0,
    **overrides: Any,
) -> Path:
    """Write a checkpoint into the directory `path`, which is created if necessary. Return `path`.

    kind: "scout" (16 experts in every layer, QK norm, RoPE scaling) or "maverick" (128 experts in
        every second layer, no QK norm, no RoPE scaling).
    dtype: F32, F16 or BF16.
    fused: False stores every expert separately, as FP8 exports do.
    multimodal: nest the config and add vision tensors, as Llama4ForConditionalGeneration does.
    shards: 1 writes one file and no index.
    overrides: values of config.json.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = make_config(kind, **overrides)
    weights = [
        (_stored_name(name, multimodal), noise(shape, scale, seed, name))
        for name, shape, scale in tensor_shapes(config, fused=fused)
    ]
    if multimodal:
        for name in ("vision_model.class_embedding", "multi_modal_projector.linear_1.weight"):
            weights.append((name, np.ones((8, 8), np.float32)))
    write_shards(path, dict(weights), dtype=dtype, shards=shards)
    _write_json(path / "config.json", _nested(config) if multimodal else config)
    write_tokenizer(path)
    _write_json(path / "generation_config.json", {"temperature": 0.6, "top_p": 0.9})
    return path


def write_hollow_checkpoint(
    path: Path, *, kind: str = "scout", shapes: dict[str, Any] = PUBLISHED_SHAPES
) -> Path:
    """Write a checkpoint whose data is a hole in a sparse file, so it takes hardly any disk.

    By default it has the shapes of the published models (218 and 800 GB). It is used to test plans.
    """
    path.mkdir(parents=True)
    config = make_config(kind, **shapes)
    header: dict[str, Any] = {}
    offset = 0
    for name, shape, _ in tensor_shapes(config):
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    with (path / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + offset)
    _write_json(path / "config.json", config)
    write_tokenizer(path)
    return path


def write_outline(path: Path, kind: str, *, is_fp8: bool = False, tokenizer: bool = False) -> Path:
    """Write only config.json and the index of a published model, without shards.

    is_fp8: with the tensors of the FP8 export: every expert separately, and scales.
    """
    path.mkdir(parents=True)
    config = make_config(kind, **PUBLISHED_SHAPES)
    config["attn_temperature_tuning"] = 4  # as in the published config.json
    names = []
    for name, shape, _ in tensor_shapes(config, fused=not is_fp8):
        names.append(f"language_model.{name}")
        if is_fp8 and ".experts." in name and len(shape) == 2:
            names.append(f"language_model.{name}_scale")
    names += [f"vision_model.model.layers.{i}.mlp.fc1.weight" for i in range(34)]
    names += ["vision_model.patch_embedding.linear.weight", "multi_modal_projector.linear_1.weight"]
    nested = _nested(config)
    if is_fp8:
        nested["quantization_config"] = {"quant_method": "fbgemm_fp8"}
    weight_map = {
        name: f"model-{i % 50 + 1:05}-of-00050.safetensors" for i, name in enumerate(names)
    }
    _write_json(path / "config.json", nested)
    _write_json(path / "model.safetensors.index.json", {"weight_map": weight_map})
    if tokenizer:
        write_tokenizer(path)
    return path


def tensor_shapes(
    config: dict[str, Any], *, fused: bool = True
) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Yield name, shape (C order) and scale of every tensor; a norm, near 1, has scale 0."""
    hidden, head_dim = config["hidden_size"], config["head_dim"]
    n_q, n_kv = config["num_attention_heads"], config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden), 1.0
    yield "model.norm.weight", (hidden,), 0.0
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden), hidden**-0.5
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (hidden,), 0.0
        yield f"{prefix}post_attention_layernorm.weight", (hidden,), 0.0
        for name, n_rows, n_cols in (
            ("q", n_q * head_dim, hidden),
            ("k", n_kv * head_dim, hidden),
            ("v", n_kv * head_dim, hidden),
            ("o", hidden, n_q * head_dim),
        ):
            yield f"{prefix}self_attn.{name}_proj.weight", (n_rows, n_cols), n_cols**-0.5
        is_moe = (layer + 1) % config["interleave_moe_layer_step"] == 0
        yield from _feed_forward(f"{prefix}feed_forward.", config, is_moe, fused)


def _feed_forward(
    prefix: str, config: dict[str, Any], is_moe: bool, fused: bool
) -> Iterator[tuple[str, tuple[int, ...], float]]:
    hidden, width = config["hidden_size"], config["intermediate_size"]
    if not is_moe:
        yield from _mlp(prefix, hidden, config["intermediate_size_mlp"])
        return
    n_experts = config["num_local_experts"]
    yield f"{prefix}router.weight", (n_experts, hidden), 4 * hidden**-0.5
    yield from _mlp(f"{prefix}shared_expert.", hidden, width)
    if fused:
        yield f"{prefix}experts.gate_up_proj", (n_experts, hidden, 2 * width), hidden**-0.5
        yield f"{prefix}experts.down_proj", (n_experts, width, hidden), width**-0.5
    else:
        for expert in range(n_experts):
            yield from _mlp(f"{prefix}experts.{expert}.", hidden, width)


def _mlp(prefix: str, hidden: int, width: int) -> Iterator[tuple[str, tuple[int, ...], float]]:
    yield f"{prefix}gate_proj.weight", (width, hidden), hidden**-0.5
    yield f"{prefix}up_proj.weight", (width, hidden), hidden**-0.5
    yield f"{prefix}down_proj.weight", (hidden, width), width**-0.5


def noise(shape: tuple[int, ...], scale: float, seed: int, name: str) -> NDArray[np.float32]:
    """Uniform noise of standard deviation `scale`, the same on every machine for (seed, name)."""
    # numpy guarantees that RandomState's streams never change; default_rng's may.
    key = [seed, *name.encode()]
    n = prod(shape)
    raw = np.frombuffer(np.random.RandomState(key).bytes(2 * n), "<i2").reshape(shape)
    noise = raw.astype(np.float32) * np.float32(3**0.5 / 32768)
    return noise * np.float32(scale) if scale else 1 + noise * np.float32(0.1)


def write_shards(
    path: Path, weights: dict[str, NDArray[np.float32]], *, dtype: str = "BF16", shards: int = 2
) -> None:
    """Write float32 arrays as `shards` safetensors files of `dtype`; several get an index."""
    names = list(weights)
    if shards == 1:
        write_safetensors(path / "model.safetensors", weights, dtype=dtype)
        return
    weight_map = {}
    for shard in range(shards):
        chosen = names[shard::shards]
        file_name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(path / file_name, {n: weights[n] for n in chosen}, dtype=dtype)
        weight_map.update(dict.fromkeys(chosen, file_name))
    index = {"metadata": {}, "weight_map": weight_map}
    _write_json(path / "model.safetensors.index.json", index)


def write_safetensors(
    path: Path, weights: dict[str, NDArray[np.float32]], *, dtype: str = "BF16"
) -> None:
    """Write one safetensors file of float32 arrays, stored as `dtype`."""
    write_mixed_shard(
        path, {name: (dtype, encode(array, dtype)) for name, array in weights.items()}
    )


def write_mixed_shard(path: Path, arrays: dict[str, SourceArray]) -> None:
    """Write one safetensors file of arrays, unchanged, each with its own dtype."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, array) in arrays.items():
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw = raw.ljust(-(-len(raw) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, array in arrays.values():
            np.ascontiguousarray(array).tofile(file)


def unfuse(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Split fused experts into separate matrices, not transposed, as in FP8 exports."""
    apart = {}
    for name, array in weights.items():
        if name.endswith("experts.gate_up_proj"):
            for expert, stacked in enumerate(array.transpose(0, 2, 1)):
                prefix = name.replace("gate_up_proj", f"{expert}.")
                half = len(stacked) // 2
                apart[f"{prefix}gate_proj.weight"] = stacked[:half]
                apart[f"{prefix}up_proj.weight"] = stacked[half:]
        elif name.endswith("experts.down_proj"):
            for expert, stacked in enumerate(array.transpose(0, 2, 1)):
                apart[name.replace("down_proj", f"{expert}.down_proj.weight")] = stacked
        else:
            apart[name] = array
    return apart


def encode(array: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Convert float32 to the array that a file of `dtype` stores (BF16: rounded, as its bits)."""
    if dtype != "BF16":
        return array.astype(_DTYPES[dtype])
    bits = np.ascontiguousarray(array).view("<u4")
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype("<u2")


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a checkpoint that this file wrote, as float32."""
    return {
        name: array
        for file in sorted(path.glob("*.safetensors"))
        for name, array in _read_safetensors(file)
    }


def _read_safetensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, info in json.loads(raw[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        array = np.frombuffer(raw[start + begin : start + end], _DTYPES[info["dtype"]])
        if info["dtype"] == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        yield name, array.astype(np.float32).reshape(info["shape"])


def _stored_name(name: str, multimodal: bool) -> str:
    return f"language_model.{name}" if multimodal else name


def _nested(config: dict[str, Any]) -> dict[str, Any]:
    text = {key: value for key, value in config.items() if key != "architectures"}
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "text_config": text,
        "vision_config": {"model_type": "llama4_vision_model"},
        "tie_word_embeddings": config["tie_word_embeddings"],
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")


def fingerprint(path: Path) -> str:
    """The SHA-256 of a checkpoint's config and weights; goldens name the one they were made of."""
    digest = hashlib.sha256()
    for file in (path / "config.json", *sorted(path.glob("*.safetensors"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()


# Decimal GB of the published models, converted and quantized by llama.cpp.
SIZES = {
    "scout": {"Q8_0": 114.5, "Q6_K": 88.4, "Q5_K_M": 76.5, "Q4_K_M": 65.35, "Q2_K": 39.6},
    "maverick": {"Q8_0": 425.8, "Q6_K": 328.8, "Q5_K_M": 284.5, "Q4_K_M": 242.75, "Q2_K": 145.6},
}


# The same of types that need an importance matrix, or are smaller with one.
MORE_SIZES = {
    "scout": {"IQ4_XS": 58.3, "IQ2_XXS": 28.6, "IQ1_S": 22.2},
    "maverick": {"IQ4_XS": 215.9, "IQ2_XXS": 104.7, "IQ1_S": 80.6},
}
