"""Make checkpoints of random BF16 weights in Scout's or Maverick's proportions, in any size.

    python -m benchmarks.make_checkpoint OUT --billions 2.6 [--kind scout|maverick]

Layers, widths and vocabulary shrink by similar factors. The same as in the published models are:
the number of experts (16 in every layer, or 128 in every second), the order of dense and expert
layers, the attention chunk of 8192 tokens, and the kind of tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import PUBLISHED_SHAPES, encode, make_config, tensor_shapes
from numpy.typing import NDArray
from tiny_tokenizer import VOCAB_SIZE, write_tokenizer

from benchmarks.shared import make_parser

_HEAD_DIM = 128
_SHARD_BYTES = 5 << 30
_CHUNK = 1 << 22  # how many weights are drawn at a time

Tensor = tuple[str, tuple[int, ...], float]  # name, shape, standard deviation


def scaled_config(kind: str, billions: float) -> dict[str, Any]:
    """Return config.json of a model with about `billions` · 1e9 weights, shaped like `kind`."""
    full = make_config(kind, **PUBLISHED_SHAPES)
    ratio = (billions * 1e9 / count_weights(full)) ** (1 / 3)
    hidden = _rounded(full["hidden_size"] * ratio, 256)
    n_layers = _rounded(full["num_hidden_layers"] * ratio, 4)
    n_heads = hidden // _HEAD_DIM
    n_kv_heads = max(n for n in range(1, max(1, n_heads // 5) + 1) if n_heads % n == 0)
    scaled = hidden / full["hidden_size"]
    return make_config(
        kind,
        **PUBLISHED_SHAPES
        | {
            "hidden_size": hidden,
            "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads,
            "num_key_value_heads": n_kv_heads,
            "intermediate_size": _rounded(full["intermediate_size"] * scaled, 256),
            "intermediate_size_mlp": _rounded(full["intermediate_size_mlp"] * scaled, 256),
            "vocab_size": max(VOCAB_SIZE, _rounded(full["vocab_size"] * scaled * ratio, 64)),
        },
    )


def count_weights(config: dict[str, Any]) -> int:
    return sum(prod(shape) for _, shape, _ in tensor_shapes(config))


def make_checkpoint(path: Path, kind: str, billions: float, *, seed: int = 0) -> int:
    """Write a checkpoint into the new directory `path`; return how many weights it has."""
    path.mkdir(parents=True)
    config = scaled_config(kind, billions)
    shards = list(_shards(list(tensor_shapes(config))))
    weight_map = {}
    for index, tensors in enumerate(shards):
        name = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        _write_shard(path / name, tensors, np.random.default_rng((seed, index)))
        weight_map.update(dict.fromkeys((tensor for tensor, _, _ in tensors), name))
    _write_json(path / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    _write_json(path / "config.json", config)
    write_tokenizer(path)
    return count_weights(config)


def _shards(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Distribute the tensors over shards of at most `_SHARD_BYTES`."""
    shard: list[Tensor] = []
    n_bytes = 0
    for tensor in tensors:
        size = 2 * prod(tensor[1])
        if shard and n_bytes + size > _SHARD_BYTES:
            yield shard
            shard, n_bytes = [], 0
        shard.append(tensor)
        n_bytes += size
    yield shard


def _write_shard(path: Path, tensors: list[Tensor], random: np.random.Generator) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape, _ in tensors:
        end = offset + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw = raw.ljust(-(-len(raw) // 8) * 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for _, shape, scale in tensors:
            for block in _weights(prod(shape), scale, random):
                block.tofile(file)


def _weights(n: int, scale: float, random: np.random.Generator) -> Iterator[NDArray[Any]]:
    """Yield `n` weights as BF16, normally distributed with standard deviation `scale`.

    The scale 0 marks a norm, whose weights lie around 1.
    """
    for first in range(0, n, _CHUNK):
        noise = random.standard_normal(min(_CHUNK, n - first), np.float32)
        noise = noise * np.float32(scale) if scale else 1 + noise * np.float32(0.1)
        yield encode(noise, "BF16")


def _rounded(value: float, multiple: int) -> int:
    return max(multiple, round(value / multiple) * multiple)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("out", type=Path, help="a directory that does not exist yet")
    parser.add_argument("--billions", type=float, required=True, help="weights, in billions")
    parser.add_argument("--kind", choices=("scout", "maverick"), default="scout")
    args = parser.parse_args()
    print(f"{make_checkpoint(args.out, args.kind, args.billions):,} weights")


if __name__ == "__main__":
    main()
