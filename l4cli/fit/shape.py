"""A model's shape: its layers, what of the weights belongs to each, and how wide its cache is.

It is read from metadata and a table of tensors, which a GGUF has in its header and which follow
from config.json's values alone (`convert.outline`), so no file has to be there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from l4cli.errors import InputError

if TYPE_CHECKING:
    from convert.gguf_file import GGUFTensor

Metadata = Callable[[str], Any]  # a key's value; None where there is none

_MERGES_PER_TOKEN = 2.18
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
_MAX_NUMBER = 1 << 31
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_ROUTED = re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch)?exps")


@dataclass(frozen=True, slots=True)
class Windows:
    """Which layers see only the last `size` tokens: all but one of every `period`."""

    size: int | None  # None: the file says
    period: int
    is_first_global: bool = False


# llama.cpp's own patterns, where the file has none (`load_swa_pattern` in src/models/*.cpp).
# Llama 4's chunk is fixed whatever the file says, unless that is 0.
_WINDOWS = {
    "llama4": Windows(8192, 4),
    "gemma2": Windows(4096, 2),
    "gemma3": Windows(None, 6),
    "gpt-oss": Windows(None, 2),
    "cohere2": Windows(None, 4),
    "exaone4": Windows(4096, 4),
    "olmo2": Windows(None, 4),
    "smallthinker": Windows(4096, 4, is_first_global=True),
}


@dataclass(frozen=True, slots=True)
class TypeBytes:
    """Bytes by qtype; the `repackable` have rows that ggml's kernels can interleave by eights."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    repackable: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def repacked(self, qtypes: Collection[str]) -> int:
        """Bytes that a CPU copies into another order on loading if it has one for `qtypes`."""
        return sum(size for qtype, size in self.repackable.items() if qtype in qtypes)


@dataclass(frozen=True, slots=True)
class Block:
    """One layer's weights: `routed` those of its experts, `dense` all others."""

    dense: TypeBytes
    routed: TypeBytes


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Of each layer: numbers in a cell of K and V together, and the tokens it sees back (0: all).

    `is_upper_bound`: some layers may see less than is known here.
    """

    key_length: int  # of one head
    widths: tuple[int, ...]
    windows: tuple[int, ...]
    is_upper_bound: bool = False

    @property
    def layers(self) -> Iterator[tuple[int, int]]:
        """Width and window of each."""
        return zip(self.widths, self.windows, strict=True)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory and speed depend on. Widths in numbers, weights in bytes, context in tokens.

    `knows_cache` is False for a model whose layers nobody published.
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
    n_ff_experts: int  # of all the experts that one token passes
    n_experts: int
    n_experts_used: int
    has_shared_expert: bool
    largest_routed: int  # bytes of the largest stack of experts
    n_params: int
    n_params_routed: int
    knows_cache: bool = True

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def n_bytes(self) -> int:
        """All weights."""
        return self.dense_bytes + self.routed_bytes + self.embeddings.total

    @property
    def dense_bytes(self) -> int:
        """What every token passes through: all but embeddings and routed experts."""
        return sum(block.dense.total for block in self.blocks) + self.output.total

    @property
    def routed_bytes(self) -> int:
        return sum(block.routed.total for block in self.blocks)

    @property
    def n_params_dense(self) -> int:
        return self.n_params - self.n_params_routed

    @property
    def is_tied(self) -> bool:
        """Whether the embeddings serve as the output matrix, too."""
        return self.output.total < self.embeddings.total // 8


def shape_of(metadata: Metadata, tensors: Mapping[str, GGUFTensor], *, name: str) -> ModelShape:
    """The shape of a model; `name` is what errors call it.

    Raises InputError where the metadata is missing or makes no sense.
    """
    read = _Metadata(metadata, name)
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
    """The shape of a GGUF, split or not. Raises ConvertError or InputError if it cannot be told."""
    from convert.gguf_model import read_model

    model = read_model(path)
    return shape_of(model.fields.get, model.tensors, name=str(path))


def _count_merges(metadata: Metadata, n_vocab: int) -> int:
    """How many the tokenizer has; as many as Llama 3's and 4's for so many tokens, if unknown."""
    if metadata("tokenizer.ggml.model") is None:
        return round(n_vocab * _MERGES_PER_TOKEN)
    merges = metadata("tokenizer.ggml.merges")
    return len(merges) if _is_array(merges) else 0


def read_cache(metadata: Metadata, name: str) -> CacheShape:
    """What a context costs, from metadata alone. Raises InputError where that does not tell."""
    read = _Metadata(metadata, name)
    n_layers = read.number("block_count", least=1, most=MAX_LAYERS)
    n_heads = read.numbers("attention.head_count", n_layers)
    n_heads_kv = read.numbers("attention.head_count_kv", n_layers, n_heads)
    default = read.number("embedding_length") // max(1, max(n_heads))
    key = read.number("attention.key_length", default)
    value = read.number("attention.value_length", default)
    if read.number("attention.kv_lora_rank", 0) and read.number("attention.key_length_mla", 0):
        value = 0  # with latent attention, V is part of K
    windows, is_upper_bound = _windows(read, n_layers)
    widths = tuple(n * (key + value) for n in n_heads_kv)
    return CacheShape(key, widths, windows, is_upper_bound)


def _windows(read: _Metadata, n_layers: int) -> tuple[tuple[int, ...], bool]:
    known = _WINDOWS.get(read.architecture)
    stated = read.number("attention.sliding_window", -1)
    size = known.size if known and (read.architecture == "llama4" or stated < 0) else stated
    if stated == 0 or not size or size < 0:
        return (0,) * n_layers, False
    pattern = read.raw("attention.sliding_window_pattern")
    if _is_array(pattern) and len(pattern) >= n_layers:
        return tuple(size if pattern[i] else 0 for i in range(n_layers)), False
    if known is None:
        return (0,) * n_layers, True
    period = pattern if type(pattern) is int else known.period
    at = 0 if known.is_first_global else period - 1
    return tuple(0 if period and i % period == at else size for i in range(n_layers)), False


def _is_array(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


class _Metadata:
    """Typed access to the keys of one architecture; every complaint names the model and the key."""

    def __init__(self, values: Metadata, name: str) -> None:
        self._values, self._name = values, name
        architecture = values("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise InputError(f"{name}: does not say its architecture (general.architecture)")
        self.architecture = architecture

    def raw(self, key: str) -> Any:
        value = self._values(f"{self.architecture}.{key}")
        is_array = isinstance(value, Sequence) and not isinstance(value, str)
        return list(value) if is_array else value

    def number(
        self, key: str, default: int | None = None, *, least: int = 0, most: int = _MAX_NUMBER
    ) -> int:
        value = self.raw(key)
        if isinstance(value, str) and value.isascii() and value.isdigit():  # as llama.cpp tells it
            value = int(value)
        if value is None:
            if default is None:
                raise self.error(key, "is missing")
            return default
        if _is_array(value) and value and all(type(item) is int for item in value):
            value = max(value)
        return self._checked(key, value, least, most)

    def numbers(
        self, key: str, count: int, default: tuple[int, ...] | None = None
    ) -> tuple[int, ...]:
        """One number a layer, written as a list or, where they are all alike, once."""
        value = self.raw(key)
        if value is None and default is not None:
            return default
        if not _is_array(value):
            return (self.number(key),) * count
        if len(value) < count:
            raise self.error(key, f"has {len(value)} entries for {count} layers")
        return tuple(self._checked(key, item, 0, _MAX_NUMBER) for item in value[:count])

    def _checked(self, key: str, value: object, least: int, most: int) -> int:
        if type(value) is not int or not least <= value <= most:
            raise self.error(key, f"is {value!r}, not a number from {least} to {most}")
        return value

    def error(self, key: str, what: str) -> InputError:
        return InputError(f"{self._name}: {self.architecture}.{key} {what}: the file is damaged")


class _Bytes:
    """Bytes by qtype, while they are being summed up."""

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
    """Sorts tensors by where they belong."""

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
