"""A model's shape: the weights of each layer, the KV cache, and the widths that matter for memory.

It is computed from metadata and a table of tensors. A GGUF has both in its header. For a model
without a GGUF, `convert.outline` derives both from the values of config.json.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from l4cli.errors import InputError
from l4cli.fit.cache_shape import MAX_LAYERS, CacheShape, read_cache
from l4cli.fit.header import Header, Metadata, is_array

if TYPE_CHECKING:
    from convert.gguf.file import GGUFTensor

_MERGES_PER_TOKEN = 2.18
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_ROUTED = re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch)?exps")


@dataclass(frozen=True, slots=True)
class TypeBytes:
    """Bytes of weights by qtype.

    `repackable` are those of matrices whose row count is a multiple of 8: ggml's CPU kernels
    interleave rows by eights.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    repackable: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def repacked(self, qtypes: Collection[str]) -> int:
        """Return the bytes that a CPU copies on loading if its kernels reorder these qtypes."""
        return sum(size for qtype, size in self.repackable.items() if qtype in qtypes)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's weights: `routed` are those of its routed experts, `dense` all others."""

    dense: TypeBytes
    routed: TypeBytes


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The facts about a model that its memory and speed depend on.

    Widths are in numbers per token, weights in bytes, the context in tokens.

    name: what messages call the model.
    blocks: the weights of each layer.
    output: the weights after the last layer.
    n_ctx_train: tokens of context that the model was trained for; 0 if unknown.
    n_heads_width: width of all attention heads together.
    n_ff: width of the widest dense feed-forward network.
    n_ff_experts: width of all the experts together that one token passes.
    largest_routed: bytes of the largest tensor of experts.
    knows_cache: False for a model whose layers nobody published.
    """

    name: str
    architecture: str
    blocks: tuple[Block, ...]
    cache: CacheShape
    embeddings: TypeBytes
    output: TypeBytes
    n_ctx_train: int
    n_embd: int
    n_vocab: int
    n_merges: int
    n_heads_width: int
    n_ff: int
    n_ff_experts: int
    n_experts: int
    n_experts_used: int
    has_shared_expert: bool
    largest_routed: int
    n_params: int
    n_params_routed: int
    knows_cache: bool = True

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def n_bytes(self) -> int:
        """Bytes of all weights."""
        return self.dense_bytes + self.routed_bytes + self.embeddings.total

    @property
    def dense_bytes(self) -> int:
        """Bytes that every token passes through: all but embeddings and routed experts."""
        return sum(block.dense.total for block in self.blocks) + self.output.total

    @property
    def routed_bytes(self) -> int:
        return sum(block.routed.total for block in self.blocks)

    @property
    def n_params_dense(self) -> int:
        return self.n_params - self.n_params_routed

    @property
    def is_tied(self) -> bool:
        """Whether the embeddings are also the output matrix, because there is no separate one."""
        return self.output.total < self.embeddings.total // 8


def shape_of(metadata: Metadata, tensors: Mapping[str, GGUFTensor], *, name: str) -> ModelShape:
    """Return the shape of a model; `name` is what messages call it.

    Raises InputError if metadata is missing or makes no sense.
    """
    read = Header(metadata, name)
    n_layers = read.number("block_count", least=1, most=MAX_LAYERS)
    n_embd = read.number("embedding_length")
    n_experts_used = read.number("expert_used_count", 0)
    cache = read_cache(metadata, name)
    embeddings = tensors.get("token_embd.weight")
    if embeddings is not None and embeddings.shape[0] != n_embd:
        width = embeddings.shape[0]
        raise read.error("embedding_length", f"is {n_embd}, but token_embd.weight is {width} wide")
    groups = _Groups(n_layers, name)
    for tensor_name, tensor in tensors.items():
        groups.add(tensor_name, tensor)
    n_ff_expert = read.number("expert_feed_forward_length", 0) or groups.expert_width
    return ModelShape(
        name=name,
        architecture=read.architecture,
        blocks=tuple(
            Block(dense.frozen(), routed.frozen())
            for dense, routed in zip(groups.dense, groups.routed, strict=True)
        ),
        cache=cache,
        embeddings=groups.embeddings.frozen(),
        output=groups.output.frozen(),
        n_ctx_train=read.number("context_length", 0),
        n_embd=n_embd,
        n_vocab=groups.n_vocab,
        n_merges=_count_merges(metadata, groups.n_vocab),
        n_heads_width=groups.heads_width,
        n_ff=groups.ff_width,
        n_ff_experts=n_ff_expert * n_experts_used,
        n_experts=read.number("expert_count", 0),
        n_experts_used=n_experts_used,
        has_shared_expert=groups.has_shared_expert,
        largest_routed=groups.largest_routed,
        n_params=sum(tensor.n_values for tensor in tensors.values()),
        n_params_routed=groups.n_params_routed,
    )


def shape_of_file(path: Path) -> ModelShape:
    """Return the shape of a GGUF, split or not.

    Raises ConvertError if the file cannot be read or is no language model, InputError if its
    metadata makes no sense.
    """
    from convert.gguf.kind import refuse_other_purposes
    from convert.gguf.model import read_model

    model = read_model(path)
    refuse_other_purposes(path, model.fields, model.tensors)
    return shape_of(model.fields.get, model.tensors, name=str(path))


def _count_merges(metadata: Metadata, n_vocab: int) -> int:
    """Return the number of merges of the tokenizer.

    Without a tokenizer it is estimated: Llama 3's and 4's have 2.18 merges per token.
    """
    if metadata("tokenizer.ggml.model") is None:
        return round(n_vocab * _MERGES_PER_TOKEN)
    merges = metadata("tokenizer.ggml.merges")
    return len(merges) if is_array(merges) else 0


class _Bytes:
    """A TypeBytes that is still being summed up."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._repackable: dict[str, int] = {}

    def add(self, tensor: GGUFTensor, *, is_multiplied: bool) -> None:
        n_bytes = tensor.n_bytes
        self._sizes[tensor.qtype] = self._sizes.get(tensor.qtype, 0) + n_bytes
        if is_multiplied and len(tensor.shape) > 1 and tensor.shape[1] % 8 == 0:
            self._repackable[tensor.qtype] = self._repackable.get(tensor.qtype, 0) + n_bytes

    def frozen(self) -> TypeBytes:
        return TypeBytes(self._sizes, self._repackable)


class _Groups:
    """Sums up a model's tensors by the part of the model to which they belong."""

    def __init__(self, n_layers: int, name: str) -> None:
        self._name = name
        self.dense = [_Bytes() for _ in range(n_layers)]
        self.routed = [_Bytes() for _ in range(n_layers)]
        self.embeddings, self.output = _Bytes(), _Bytes()
        self.n_vocab = self.heads_width = self.ff_width = self.expert_width = 0
        self.largest_routed = self.n_params_routed = 0
        self.has_shared_expert = False

    def add(self, name: str, tensor: GGUFTensor) -> None:
        rows = tensor.shape[1] if len(tensor.shape) > 1 else 1
        match = _BLOCK.fullmatch(name)
        if match is None:
            is_embedding = name == "token_embd.weight"
            (self.embeddings if is_embedding else self.output).add(
                tensor, is_multiplied=name == "output.weight"
            )
            if is_embedding:
                self.n_vocab = rows
            return
        layer, kind = int(match[1]), match[2]
        if layer >= len(self.dense):
            raise InputError(f"{self._name}: has {name} but only {len(self.dense)} layers")
        if _ROUTED.match(kind):
            self.routed[layer].add(tensor, is_multiplied=True)
            self.n_params_routed += tensor.n_values
            self.largest_routed = max(self.largest_routed, tensor.n_bytes)
            if kind.startswith("ffn_down"):
                self.expert_width = tensor.shape[0]
            return
        self.dense[layer].add(tensor, is_multiplied=kind.endswith(".weight"))
        if kind == "ffn_down.weight":
            self.ff_width = max(self.ff_width, tensor.shape[0])
        elif kind == "attn_output.weight":
            self.heads_width = max(self.heads_width, tensor.shape[0])
        self.has_shared_expert |= "_shexp" in kind
