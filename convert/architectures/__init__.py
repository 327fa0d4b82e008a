"""One small module an architecture, found by the name config.json gives it.

An architecture knows three things: how to read its config, which GGUF metadata llama.cpp expects,
and which output tensors there are and where their numbers lie in the checkpoint. To add one, write
the module and enter its names here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from convert.architectures import llama4
from convert.errors import ConvertError
from convert.fields import Field
from convert.hparams import Config, Hparams
from convert.source import Source
from convert.tensors import OutputTensor
from convert.types import Finding


class Architecture(Protocol):
    """What a module of this package provides."""

    NAME: str  # llama.cpp's name of the architecture

    def read_hparams(self, config: Config) -> Hparams: ...

    def fields(self, hparams: Hparams) -> dict[str, Field]: ...

    def tensors(self, hparams: Hparams, source: Source) -> Iterator[OutputTensor]: ...

    def canonical_name(self, name: str) -> str: ...

    def is_dropped(self, name: str) -> bool: ...

    def diagnose(self, config: Config, hparams: Hparams) -> Iterator[Finding]: ...


_REGISTRY: dict[str, Architecture] = {
    "Llama4ForCausalLM": llama4,
    "Llama4ForConditionalGeneration": llama4,
}


def find_architecture(name: str, config_path: Path) -> Architecture:
    """The module for `name`, as in `architectures[0]` of config.json. Raises ConvertError."""
    if name not in _REGISTRY:
        known = ", ".join(_REGISTRY)
        raise ConvertError(f"{config_path}: unsupported architecture {name}; supported: {known}")
    return _REGISTRY[name]
