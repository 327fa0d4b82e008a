"""Writes tiny checkpoints of models built like Llama, with numpy alone.

    write_decoder(tmp_path / "model", "qwen3moe")

`checkpoints` writes those of Llama 4, and says how the weights are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checkpoints import noise, write_shards
from tiny_tokenizer import (
    BOS_ID,
    EOT_ID,
    N_PIECES,
    VOCAB_SIZE,
    write_sentencepiece,
    write_tokenizer,
)

_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}

# kind -> (pre-tokenizer, or None for SentencePiece; values of config.json besides _COMMON)
KINDS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "llama2": (None, {"architectures": ["LlamaForCausalLM"], "num_key_value_heads": 4}),
    "llama3": (
        "llama-bpe",
        {
            "architectures": ["LlamaForCausalLM"],
            "tie_word_embeddings": True,
            "head_dim": 32,
            "rope_theta": 500_000.0,
            "rope_scaling": _LLAMA3_ROPE,
            "max_position_embeddings": 131_072,
        },
    ),
    "mistral": (
        "tekken",
        {"architectures": ["MistralForCausalLM"], "head_dim": 64, "sliding_window": None},
    ),
    "mixtral": (
        None,
        {
            "architectures": ["MixtralForCausalLM"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": None,
        },
    ),
    "qwen2": ("qwen2", {"architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True}),
    "qwen3": ("qwen2", {"architectures": ["Qwen3ForCausalLM"], "head_dim": 64}),
    "qwen3-yarn": (
        "qwen2",
        {"architectures": ["Qwen3ForCausalLM"], "head_dim": 64, "rope_scaling": _YARN},
    ),
    "qwen3moe": (
        "qwen2",
        {
            "architectures": ["Qwen3MoeForCausalLM"],
            "head_dim": 64,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 64,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        },
    ),
}

_MODEL_TYPES = {
    "qwen3moe": "qwen3_moe",
    "qwen3-yarn": "qwen3",
    "llama2": "llama",
    "llama3": "llama",
}

_COMMON: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def write_decoder(
    path: Path, kind: str, *, dtype: str = "BF16", shards: int = 2, **overrides: Any
) -> Path:
    """Write a checkpoint of `kind` into the directory `path` and return `path`."""
    path.mkdir(parents=True, exist_ok=True)
    config = make_decoder_config(kind, **overrides)
    weights = {
        name: noise(shape, scale, 0, name) for name, shape, scale in decoder_shapes(kind, config)
    }
    write_shards(path, weights, dtype=dtype, shards=shards)
    (path / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    pre, _ = KINDS[kind]
    if pre is None:
        write_sentencepiece(path)
    else:
        write_tokenizer(path, pre)
    return path


def make_decoder_config(kind: str, **overrides: Any) -> dict[str, Any]:
    """The values of config.json for a tiny model of `kind`."""
    pre, own = KINDS[kind]
    return {
        "model_type": _MODEL_TYPES.get(kind, kind),
        "vocab_size": N_PIECES if pre is None else VOCAB_SIZE,
        "bos_token_id": 1 if pre is None else BOS_ID,
        "eos_token_id": 2 if pre is None else EOT_ID,
        **_COMMON,
        **own,
        **overrides,
    }


def decoder_shapes(
    kind: str, config: dict[str, Any]
) -> Iterator[tuple[str, tuple[int, ...], float]]:
    """Yield name, shape (C order) and scale of every tensor; a norm, near 1, has scale 0."""
    hidden, n_heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // n_heads
    q_size, kv_size = n_heads * head_dim, config["num_key_value_heads"] * head_dim
    yield "model.embed_tokens.weight", (config["vocab_size"], hidden), 1.0
    yield "model.norm.weight", (hidden,), 0.0
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (config["vocab_size"], hidden), hidden**-0.5
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (hidden,), 0.0
        yield f"{prefix}post_attention_layernorm.weight", (hidden,), 0.0
        for name, n_rows, n_cols in (
            ("q", q_size, hidden),
            ("k", kv_size, hidden),
            ("v", kv_size, hidden),
            ("o", hidden, q_size),
        ):
            yield f"{prefix}self_attn.{name}_proj.weight", (n_rows, n_cols), 2 * n_cols**-0.5
            if kind == "qwen2" and name != "o":
                yield f"{prefix}self_attn.{name}_proj.bias", (n_rows,), 0.5
            if kind.startswith("qwen3") and name in "qk":
                yield f"{prefix}self_attn.{name}_norm.weight", (head_dim,), 0.0
        yield from _feed_forward(prefix, kind, config)


def _feed_forward(
    prefix: str, kind: str, config: dict[str, Any]
) -> Iterator[tuple[str, tuple[int, ...], float]]:
    hidden, width = config["hidden_size"], config["intermediate_size"]
    names = ("gate_proj", "up_proj", "down_proj")
    if kind not in ("mixtral", "qwen3moe"):
        yield from _mlp(f"{prefix}mlp.", names, hidden, width)
        return
    prefix += "mlp." if kind == "qwen3moe" else "block_sparse_moe."
    if kind == "qwen3moe":
        n_experts, width = config["num_experts"], config["moe_intermediate_size"]
    else:
        n_experts, names = config["num_local_experts"], ("w1", "w3", "w2")
    yield f"{prefix}gate.weight", (n_experts, hidden), 4 * hidden**-0.5
    for expert in range(n_experts):
        yield from _mlp(f"{prefix}experts.{expert}.", names, hidden, width)


def _mlp(
    prefix: str, names: tuple[str, str, str], hidden: int, width: int
) -> Iterator[tuple[str, tuple[int, ...], float]]:
    gate, up, down = names
    yield f"{prefix}{gate}.weight", (width, hidden), hidden**-0.5
    yield f"{prefix}{up}.weight", (width, hidden), hidden**-0.5
    yield f"{prefix}{down}.weight", (hidden, width), width**-0.5
