"""What the recipe needs to know of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convert.gguf.array import GGUFArray

# The models that llama.cpp treats as one of 70B have these numbers of layers.
_LAYERS_OF_70B = {"llama": 80, "qwen2": 80, "deci": 80, "olmo": 80, "jais2": 68}


@dataclass(frozen=True)
class Model:
    """What the rules need to know of a model.

    n_experts: 0 in a dense model.
    n_gqa: query heads per KV head; 0 if there are no KV heads.
    is_70b: whether llama.cpp treats it as a 70B model.
    architecture: llama.cpp's name.
    """

    n_layers: int
    n_experts: int
    n_gqa: int
    is_70b: bool = False
    architecture: str = ""

    @classmethod
    def of(
        cls, architecture: str, *, n_layers: int, n_heads: int, n_kv_heads: int, n_experts: int
    ) -> Model:
        """The model with these counts."""
        n_gqa = n_heads // n_kv_heads if n_kv_heads else 0
        is_70b = _LAYERS_OF_70B.get(architecture) == n_layers
        if architecture == "llama":  # the first one had a KV head for every query head
            is_70b = is_70b and n_heads != n_kv_heads
        return cls(n_layers, n_experts, n_gqa, is_70b, architecture)

    @classmethod
    def of_gguf(cls, fields: Mapping[str, Any]) -> Model:
        """The model with these metadata, read as llama.cpp reads them."""
        architecture = str(fields.get("general.architecture"))

        def count(key: str, default: int) -> int:
            value = fields.get(f"{architecture}.{key}")
            if isinstance(value, GGUFArray):  # one for each layer: the first one's counts
                value = value[0] if len(value) else None
            return value if type(value) is int and value >= 0 else default

        n_heads = count("attention.head_count", 1)
        return cls.of(
            architecture,
            n_layers=count("block_count", 1),
            n_heads=n_heads,
            n_kv_heads=count("attention.head_count_kv", n_heads),
            n_experts=count("expert_count", 0),
        )

    @property
    def is_falcon(self) -> bool:
        return self.architecture == "falcon"
