"""Reads and writes the model as a Hugging Face checkpoint (BF16, shards of at most 13 MB)."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from training import tokenizer
from training.dimensions import Dimensions
from training.model import Llama4
from training.render import template_text

SHARD_BYTES = 13_000_000
# How the names of our weights begin, and how they begin in the checkpoint.
PREFIXES = {
    "embed_tokens.": "model.embed_tokens.",
    "layers.": "model.layers.",
    "norm.": "model.norm.",
}


def read(folder: Path) -> Llama4:
    """Return a checkpoint's model, with its weights in float32."""
    config = json.loads((folder / "config.json").read_text("utf8"))
    model = Llama4(dimensions_of(config))
    stored = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict({name: stored[_checkpoint_name(name)].float() for name in names})
    return model


def write(
    folder: Path, dimensions: Dimensions, weights: dict[str, Tensor], trained: Tokenizer
) -> None:
    """Write weights, configuration and tokenizer into a folder that exists."""
    ids = {name: trained.token_to_id(name) for name in tokenizer.SPECIAL}
    _write_weights(folder, weights)
    _write_json(folder / "config.json", config_of(dimensions, ids))
    _write_json(folder / "generation_config.json", _generation_config(ids))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(ids, dimensions.context))
    _write_json(
        folder / "special_tokens_map.json",
        {"bos_token": tokenizer.BOS, "eos_token": tokenizer.EOT, "pad_token": tokenizer.PAD},
    )
    (folder / "tokenizer.json").write_text(trained.to_str(pretty=False), "utf8")


def dimensions_of(config: dict[str, Any]) -> Dimensions:
    """Return the dimensions that a config.json states."""
    return Dimensions(
        vocab_size=config["vocab_size"],
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        experts=config["num_local_experts"],
        expert_width=config["intermediate_size"],
        dense_width=config["intermediate_size_mlp"],
        moe_interval=config["interleave_moe_layer_step"],
        eps=config["rms_norm_eps"],
        rope_theta=config["rope_theta"],
        chunk=config["attention_chunk_size"],
        nope_interval=config["no_rope_layer_interval"],
        temperature_floor=config["floor_scale"],
        temperature_scale=config["attn_scale"],
        context=config["max_position_embeddings"],
    )


def config_of(dimensions: Dimensions, ids: dict[str, int]) -> dict[str, Any]:
    """Return the config.json of these dimensions; `ids` are those of the special tokens."""
    rope = [int(not dimensions.is_global(i)) for i in range(dimensions.layers)]
    return {
        "architectures": ["Llama4ForCausalLM"],
        "attention_bias": False,
        "attention_chunk_size": dimensions.chunk,
        "attention_dropout": 0.0,
        "attn_scale": dimensions.temperature_scale,
        "attn_temperature_tuning": True,
        "bos_token_id": ids[tokenizer.BOS],
        "dtype": "bfloat16",
        "eos_token_id": [ids[name] for name in (tokenizer.END, tokenizer.EOM, tokenizer.EOT)],
        "floor_scale": dimensions.temperature_floor,
        "head_dim": dimensions.head_dim,
        "hidden_act": "silu",
        "hidden_size": dimensions.hidden,
        "initializer_range": 0.02,
        "interleave_moe_layer_step": dimensions.moe_interval,
        "intermediate_size": dimensions.expert_width,
        "intermediate_size_mlp": dimensions.dense_width,
        "layer_types": ["chunked_attention" if r else "full_attention" for r in rope],
        "max_position_embeddings": dimensions.context,
        "model_type": "llama4_text",
        "moe_layers": [i for i in range(dimensions.layers) if dimensions.is_moe(i)],
        "no_rope_layer_interval": dimensions.nope_interval,
        "no_rope_layers": rope,
        "num_attention_heads": dimensions.heads,
        "num_experts_per_tok": 1,
        "num_hidden_layers": dimensions.layers,
        "num_key_value_heads": dimensions.kv_heads,
        "num_local_experts": dimensions.experts,
        "output_router_logits": False,
        "pad_token_id": ids[tokenizer.PAD],
        "rms_norm_eps": dimensions.eps,
        "rope_parameters": {"rope_theta": dimensions.rope_theta, "rope_type": "default"},
        "rope_scaling": None,
        "rope_theta": dimensions.rope_theta,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_qk_norm": True,
        "vocab_size": dimensions.vocab_size,
    }


def _checkpoint_name(name: str) -> str:
    for ours, theirs in PREFIXES.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _shards(weights: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Divide tensors, in their order, into as few files as the limit allows."""
    files: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, weight in weights.items():
        if size + weight.nbytes > SHARD_BYTES:
            files.append({})
            size = 0
        files[-1][name] = weight
        size += weight.nbytes
    return files


def _write_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    weights = {_checkpoint_name(n): w.to(torch.bfloat16).contiguous() for n, w in weights.items()}
    files = _shards(weights)
    where: dict[str, str] = {}
    for number, shard in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # safetensors makes it readable by the owner only
        where |= dict.fromkeys(shard, name)
    total = sum(weight.nbytes for weight in weights.values())
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": where},
    )


def _tokenizer_config(ids: dict[str, int], context: int) -> dict[str, Any]:
    decoder = {
        str(ids[name]): {
            "content": name, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for name in tokenizer.SPECIAL
    }  # fmt: skip
    return {
        "added_tokens_decoder": decoder,
        "bos_token": tokenizer.BOS,
        "chat_template": template_text(),
        "clean_up_tokenization_spaces": False,
        "eos_token": tokenizer.EOT,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": context,
        "pad_token": tokenizer.PAD,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def _generation_config(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "bos_token_id": ids[tokenizer.BOS],
        "do_sample": True,
        "eos_token_id": [ids[name] for name in (tokenizer.END, tokenizer.EOM, tokenizer.EOT)],
        "pad_token_id": ids[tokenizer.PAD],
        "temperature": 0.6,
        "top_p": 0.9,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf8")
