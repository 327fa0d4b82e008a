"""Reads config.json, and defines `Hparams`, the hyperparameters of a model."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.reading import read_json

_MISSING: Any = object()
# The most of what is made once for each: far above every model, or llama.cpp's own limit.
_MOST = {
    "num_hidden_layers": 512,  # LLAMA_MAX_LAYERS
    "num_local_experts": 1024,  # LLAMA_MAX_EXPERTS
    "num_experts": 1024,
    "vocab_size": 1 << 22,
    "head_dim": 1 << 16,
}
_MOST_OTHERS = (1 << 31) - 1
_LEAST_NUMBER, _MOST_NUMBER = 1.2e-38, 3.4e38  # of a float32 with all its digits


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's frequency scaling (transformers: ``_compute_llama3_parameters``)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int  # tokens


@dataclass(frozen=True)
class Hparams:
    """The hyperparameters of a model; `n_experts` is 0 if it has none. Layers count from 0."""

    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int  # tokens
    norm_eps: float  # of RMS norms, or of an encoder's layer norms
    hidden_act: str
    tie_embeddings: bool
    dense_size: int  # width of the feed-forward network in layers without experts
    n_experts: int
    n_experts_used: int
    expert_size: int  # width of one expert, and of the shared one
    rope_type: str
    rope_theta: float
    rope_scaling: RopeScaling | None


@dataclass(frozen=True)
class BertHparams(Hparams):
    """The hyperparameters of BERT, whose tokens belong to one of several kinds of sentences."""

    n_token_types: int


@dataclass(frozen=True)
class Llama4Hparams(Hparams):
    """The hyperparameters of Llama 4, which has layers of several kinds."""

    moe_step: int
    moe_layers: tuple[int, ...]
    rope_layers: tuple[bool, ...]  # whether each layer rotates (False: NoPE)
    chunked_layers: tuple[bool, ...]  # whether each layer attends within a chunk
    chunk_size: int | None  # tokens
    use_qk_norm: bool
    tunes_temperature: bool
    temperature_floor: int  # tokens
    temperature_scale: float


class Config:
    """The values of config.json, checked for their types.

    Every method but `raw` and `states` raises ConvertError, which names the file and the key.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path = path
        self.values = values

    @classmethod
    def load(cls, src: Path) -> Config:
        return cls(src / "config.json", read_json(src / "config.json"))

    @property
    def architecture(self) -> str:
        names = self.values.get("architectures")
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise ConvertError(f"{self.path}: `architectures` must name one architecture")
        return names[0]

    def text(self) -> Config:
        """The config of the language model: in a multimodal one, `text_config` over the rest."""
        nested = self.values.get("text_config")
        if nested is None:
            return self
        if not isinstance(nested, dict):
            raise ConvertError(f"{self.path}: `text_config` is not an object")
        return Config(self.path, {**self.values, **nested})

    def raw(self, key: str) -> Any:
        """The value, unchecked; None if absent."""
        return self.values.get(key)

    def integer(self, key: str, default: int = _MISSING, minimum: int = 1) -> int:
        value, most = self._get(key, default), _MOST.get(key, _MOST_OTHERS)
        if type(value) is not int or value < minimum:
            raise ConvertError(
                f"{self.path}: `{key}` is {reprlib.repr(value)}, not a whole number >= {minimum}"
            )
        if value > most:
            raise ConvertError(
                f"{self.path}: `{key}` is {reprlib.repr(value)}, more than any model has ({most:,})"
            )
        return value

    def number(self, key: str, default: float = _MISSING) -> float:
        value = self._get(key, default)
        if type(value) not in (int, float) or not _LEAST_NUMBER <= value <= _MOST_NUMBER:
            raise ConvertError(
                f"{self.path}: `{key}` is {reprlib.repr(value)}, not a positive number"
            )
        return float(value)

    def string(self, key: str, default: str = _MISSING) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise ConvertError(f"{self.path}: `{key}` is {reprlib.repr(value)}, not a string")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, default)
        # Some exports of Llama 4 write `attn_temperature_tuning: 4` for true.
        if type(value) not in (bool, int):
            raise ConvertError(
                f"{self.path}: `{key}` is {reprlib.repr(value)}, neither true nor false"
            )
        return bool(value)

    def integers(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers; None if absent or empty, which transformers treats the same."""
        value = self.values.get(key)
        if not value:
            return None
        if not isinstance(value, list) or any(type(n) not in (int, bool) for n in value):
            raise ConvertError(f"{self.path}: `{key}` is not a list of whole numbers")
        return tuple(int(n) for n in value)

    def states(self, key: str) -> bool:
        """Whether the key has a value other than null."""
        return self.values.get(key) is not None

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is _MISSING:
            raise ConvertError(f"{self.path}: `{key}` is missing")
        return value
