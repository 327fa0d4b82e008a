"""The supported architectures, found by the name in config.json.

An architecture knows three things: how to read its config, which GGUF metadata llama.cpp expects,
and which output tensors there are and where their numbers lie in the checkpoint. To add one, write
a module for it and register its names here. For a model built like Llama, a `Decoder` of a few
lines is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from convert.architectures import bert, llama4
from convert.architectures.llama import LLAMA, MISTRAL, MIXTRAL
from convert.architectures.qwen import QWEN2, QWEN3, QWEN3_MOE
from convert.checkpoint.hparams import Config, Hparams
from convert.checkpoint.source import Source
from convert.checkpoint.tensors import OutputTensor
from convert.errors import ConvertError
from convert.gguf.fields import Field
from convert.types import Finding

H = TypeVar("H", bound=Hparams)


class Architecture(Protocol[H]):
    """The interface of an architecture: a module of this package, or an object in one.

    read_hparams: the hyperparameters in a config.json.
    fields: the GGUF metadata, with full keys.
    tensors: every tensor of the GGUF. Raises ConvertError if one is missing or has a wrong shape.
    canonical_name: a stored tensor's name as `tensors` asks for it.
    is_dropped: whether a stored tensor is left out on purpose.
    diagnose: where the config differs from what llama.cpp computes.
    """

    @property
    def NAME(self) -> str: ...  # noqa: N802  llama.cpp's name of the architecture

    def read_hparams(self, config: Config) -> H: ...

    def fields(self, config: Config, hparams: H) -> dict[str, Field]: ...

    def tensors(self, hparams: H, source: Source) -> Iterator[OutputTensor]: ...

    def canonical_name(self, name: str) -> str: ...

    def is_dropped(self, name: str) -> bool: ...

    def diagnose(self, config: Config, hparams: H) -> Iterator[Finding]: ...


_REGISTRY: dict[str, Architecture[Any]] = {
    "Llama4ForCausalLM": llama4,
    "Llama4ForConditionalGeneration": llama4,
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": MISTRAL,
    "MixtralForCausalLM": MIXTRAL,
    "BertModel": bert,
    "BertForMaskedLM": bert,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
    "Qwen3MoeForCausalLM": QWEN3_MOE,
}


def find_architecture(name: str, config_path: Path) -> Architecture[Any]:
    """The architecture that config.json calls `name` in `architectures[0]`.

    config_path: for the error message. Raises ConvertError if the architecture is not supported.
    """
    if name not in _REGISTRY:
        known = ", ".join(_REGISTRY)
        raise ConvertError(f"{config_path}: unsupported architecture {name}; supported: {known}")
    return _REGISTRY[name]
