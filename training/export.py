"""Writes a run's averaged weights as a Hugging Face checkpoint:
python -m training.export RUN FOLDER"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from training import tokenizer
from training.model import Llama4, Shape
from training.render import template_text

SHARD_BYTES = 13_000_000
RENAMED = {
    "embed_tokens.": "model.embed_tokens.",
    "layers.": "model.layers.",
    "norm.": "model.norm.",
}


def checkpoint_name(name: str) -> str:
    for ours, theirs in RENAMED.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def read_weights(folder: Path, model: Llama4) -> None:
    """The way back: a checkpoint's weights into our model."""
    stored = {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}
    names = [name for name, _ in model.named_parameters()]
    model.load_state_dict({name: stored[checkpoint_name(name)].float() for name in names})


def shards(weights: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Tensors in the checkpoint's order, as few files as the limit allows."""
    files: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, weight in weights.items():
        if size + weight.nbytes > SHARD_BYTES:
            files.append({})
            size = 0
        files[-1][name] = weight
        size += weight.nbytes
    return files


def write_weights(folder: Path, weights: dict[str, Tensor]) -> None:
    weights = {checkpoint_name(n): w.to(torch.bfloat16).contiguous() for n, w in weights.items()}
    files = shards(weights)
    where = {}
    for number, shard in enumerate(files, 1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # safetensors leaves it to the owner alone
        where |= dict.fromkeys(shard, name)
    total = sum(weight.nbytes for weight in weights.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": where},
    )


def config(shape: Shape, ids: dict[str, int]) -> dict:
    rope = [int(not shape.is_global(i)) for i in range(shape.layers)]
    return {
        "architectures": ["Llama4ForCausalLM"],
        "attention_bias": False,
        "attention_chunk_size": shape.chunk,
        "attention_dropout": 0.0,
        "attn_scale": shape.temperature_scale,
        "attn_temperature_tuning": True,
        "bos_token_id": ids[tokenizer.BOS],
        "dtype": "bfloat16",
        "eos_token_id": [ids[name] for name in (tokenizer.END, tokenizer.EOM, tokenizer.EOT)],
        "floor_scale": shape.temperature_floor,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "interleave_moe_layer_step": shape.moe_interval,
        "intermediate_size": shape.expert_width,
        "intermediate_size_mlp": shape.dense_width,
        "layer_types": ["chunked_attention" if r else "full_attention" for r in rope],
        "max_position_embeddings": shape.context,
        "model_type": "llama4_text",
        "moe_layers": [i for i in range(shape.layers) if shape.is_moe(i)],
        "no_rope_layer_interval": shape.nope_interval,
        "no_rope_layers": rope,
        "num_attention_heads": shape.heads,
        "num_experts_per_tok": 1,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "num_local_experts": shape.experts,
        "output_router_logits": False,
        "pad_token_id": ids[tokenizer.PAD],
        "rms_norm_eps": shape.eps,
        "rope_parameters": {"rope_theta": shape.rope_theta, "rope_type": "default"},
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "use_qk_norm": True,
        "vocab_size": shape.vocab_size,
    }


def tokenizer_config(ids: dict[str, int], context: int) -> dict:
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


def generation_config(ids: dict[str, int]) -> dict:
    return {
        "bos_token_id": ids[tokenizer.BOS],
        "do_sample": True,
        "eos_token_id": [ids[name] for name in (tokenizer.END, tokenizer.EOM, tokenizer.EOT)],
        "pad_token_id": ids[tokenizer.PAD],
        "temperature": 0.6,
        "top_p": 0.9,
    }


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf8")


def write(folder: Path, shape: Shape, weights: dict[str, Tensor], trained: Tokenizer) -> None:
    ids = {name: trained.token_to_id(name) for name in tokenizer.SPECIAL}
    write_weights(folder, weights)
    write_json(folder / "config.json", config(shape, ids))
    write_json(folder / "generation_config.json", generation_config(ids))
    write_json(folder / "tokenizer_config.json", tokenizer_config(ids, shape.context))
    write_json(
        folder / "special_tokens_map.json",
        {"bos_token": tokenizer.BOS, "eos_token": tokenizer.EOT, "pad_token": tokenizer.PAD},
    )
    (folder / "tokenizer.json").write_text(trained.to_str(pretty=False), "utf8")
    shutil.copy(Path(__file__).parent / "MODEL_CARD.md", folder / "README.md")


def export(run: Path, out: Path, blend: Path | None = None, share: float = 1.0) -> None:
    """Writes beside the folder first, and swaps when all is there. Blended with the checkpoint that
    the run went on from, the run's weights have `share` of the whole."""
    trained = tokenizer.load(run / "tokenizer.json")
    state = torch.load(run / "state.pt", map_location="cpu")
    shape, weights = Shape(trained.get_vocab_size()), state["average"]
    if blend:
        earlier = Llama4(shape)
        read_weights(blend, earlier)
        weights = {
            name: before.detach().lerp(weights[name], share)
            for name, before in earlier.named_parameters()
        }
    part, old = out.with_name(out.name + ".part"), out.with_name(out.name + ".old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part, shape, weights, trained)
    if out.exists():
        out.rename(old)
    part.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    print(f"{out}: step {state['step']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blend", type=Path, help="an earlier checkpoint to average with")
    parser.add_argument("--share", type=float, default=0.7, help="the run's share of that average")
    options = parser.parse_args()
    export(options.run, options.folder, options.blend, options.share)
